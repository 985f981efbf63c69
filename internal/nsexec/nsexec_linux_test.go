//go:build cgo

package nsexec

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// all are the capabilities of this process.
func all(t *testing.T) uint64 {
	t.Helper()
	var data [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		t.Fatal(err)
	}
	return uint64(data[1].Permitted)<<32 | uint64(data[0].Permitted)
}

// job runs a shell's command among the namespaces of this process itself.
func job(t *testing.T, script string) *Job {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	init := os.NewFile(uintptr(fd), "init")
	t.Cleanup(func() { init.Close() })
	trampoline, err := Trampoline()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { trampoline.Close() })
	caps := all(t)
	return &Job{Init: init, Trampoline: trampoline, Namespaces: unix.CLONE_NEWUTS | unix.CLONE_NEWPID, Umask: -1, Paths: []string{"/bin/sh"}, Args: []string{"sh", "-c", script},
		Env: []string{"PATH=/usr/bin:/bin"}, Capabilities: Capabilities{Bounding: caps, Effective: caps, Permitted: caps}}
}

// output runs the job to its end.
func output(t *testing.T, j *Job) (string, *os.ProcessState, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	j.Stdout, j.Stderr = w, w
	p, err := Start(j)
	w.Close()
	text, _ := io.ReadAll(r)
	if err != nil {
		return string(text), nil, err
	}
	st, err := p.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return string(text), st, nil
}

func TestStart(t *testing.T) {
	j := job(t, `pwd; umask; ulimit -n; echo "$A"; ls /proc/self/fd | wc -l; id -u; id -g; id -G; cat /proc/self/status | grep -E '^(Sig(Blk|Cgt)|CapEff|CapAmb)'; exit 7`)
	group := filepath.Join(t.TempDir(), "tasks")
	if err := os.WriteFile(group, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	j.Groups, j.Dir, j.Umask, j.UID, j.GID, j.Supplementary = []string{group}, "/usr/lib", 0o27, 12, 34, []uint32{34, 56}
	j.Rlimits, j.Env = []Rlimit{{unix.RLIMIT_NOFILE, 77, 99}}, append(j.Env, "A=b c", "B=")
	set := uint64(1<<unix.CAP_CHOWN | 1<<unix.CAP_WAKE_ALARM)
	j.Capabilities = Capabilities{Bounding: set, Permitted: set, Effective: 1, Inheritable: set, Ambient: 1}
	text, st, err := output(t, j)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{"/usr/lib", "0027", "77", "b c", "4", "12", "34", "34 56", "SigBlk:\t0000000000000000", "SigCgt:\t0000000000000000",
		"CapEff:\t0000000000000001", "CapAmb:\t0000000000000001", ""}, "\n")
	if text != want || st.ExitCode() != 7 {
		t.Errorf("%q, %v; want %q", text, st, want)
	}
	if b, _ := os.ReadFile(group); string(b) != "0" {
		t.Errorf("the group was not joined: %q", b)
	}
}

// filter answers one system call with an action of seccomp(2), and allows the
// others.
func filter(nr uint32, action uint32) []byte {
	var b []byte
	for _, i := range []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 0, Jf: 1, K: nr},
		{Code: unix.BPF_RET | unix.BPF_K, K: action},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x7fff0000}, // allow
	} {
		b = binary.NativeEndian.AppendUint16(b, i.Code)
		b = append(b, i.Jt, i.Jf)
		b = binary.NativeEndian.AppendUint32(b, i.K)
	}
	return b
}

// Whatever goes wrong, the command does not run, the reason is told, and
// nothing is left.
func TestStartFails(t *testing.T) {
	const deny, kill = 0x50000 | uint32(unix.EPERM), 0x80000000
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("#!/nosuch\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/nosuch\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	odd := filepath.Join(t.TempDir(), "odd")
	if err := os.WriteFile(odd, []byte{1, 2, 3, 4}, 0o755); err != nil {
		t.Fatal(err)
	}
	dead := exitedChild(t)
	for _, tt := range []struct {
		name   string
		change func(*Job)
		stage  string
		err    error
	}{
		{"group", func(j *Job) { j.Groups = []string{"/nosuch/tasks"} }, "join the control groups", unix.ENOENT},
		{"cgroup", func(j *Job) { j.Cgroup = j.Init }, "fork", nil},
		{"score", func(j *Job) { j.OOMScore = "5000" }, "set the OOM score", unix.EINVAL},
		{"namespaces", func(j *Job) { j.Namespaces = 1 << 8 }, "join the namespaces", unix.EINVAL},
		{"dead", func(j *Job) { j.Init = dead }, "join the namespaces", unix.ESRCH},
		{"limit", func(j *Job) { j.Rlimits = []Rlimit{{99, 1, 1}} }, "set a limit", unix.EINVAL},
		{"directory", func(j *Job) { j.Dir = "/nosuch" }, "change directory", unix.ENOENT},
		{"capabilities", func(j *Job) { j.Capabilities.Permitted = 0 }, "set capabilities", unix.EPERM},
		{"missing", func(j *Job) { j.Paths = []string{"/nosuch", "/nosuch/either"} }, "look for the command", unix.ENOENT},
		{"directory as command", func(j *Job) { j.Paths = []string{"/nosuch", "/"} }, "look for the command", unix.EISDIR},
		{"not executable", func(j *Job) { j.Paths = []string{text} }, "look for the command", unix.EACCES},
		{"bad filter", func(j *Job) { j.Filter = make([]byte, 8) }, "install the seccomp filter", unix.EINVAL},
		{"cut filter", func(j *Job) { j.Filter = make([]byte, 7) }, "fork", nil},
		{"execveat denied", func(j *Job) { j.Filter = filter(unix.SYS_EXECVEAT, deny) }, "execute the command", unix.EPERM},
		{"capset denied", func(j *Job) { j.Filter = filter(unix.SYS_CAPSET, deny) }, "set capabilities", unix.EPERM},
		{"capset kills", func(j *Job) { j.Filter = filter(unix.SYS_CAPSET, kill) }, "set capabilities", errKilled},
		{"write denied", func(j *Job) { j.Filter, j.Dir = filter(unix.SYS_WRITE, kill), "/nosuch/x" }, "change directory", unix.ENOENT},
	} {
		for _, nnp := range []bool{false, true} {
			if nnp && strings.HasPrefix(tt.name, "capset") {
				continue // the filter comes later
			}
			j := job(t, "echo ran")
			j.NoNewPrivs = nnp
			tt.change(j)
			out, _, err := output(t, j)
			var failed *Error
			if !errors.As(err, &failed) || stages[failed.Stage] != tt.stage || tt.err != nil && !errors.Is(err, tt.err) || out != "" {
				t.Errorf("%s: %q, %v; want %s: %v", tt.name, out, err, tt.stage, tt.err)
			}
		}
	}
	// From the trampoline on there is the exit status alone.
	for _, tt := range []struct {
		name   string
		change func(*Job)
		status int // a signal if negative
	}{
		{"execve denied", func(j *Job) { j.Filter = filter(unix.SYS_EXECVE, deny) }, 126},
		{"execve kills", func(j *Job) { j.Filter = filter(unix.SYS_EXECVE, kill) }, -int(unix.SIGSYS)},
		{"execveat kills", func(j *Job) { j.Filter = filter(unix.SYS_EXECVEAT, kill) }, -int(unix.SIGSYS)},
		{"no interpreter", func(j *Job) { j.Paths = []string{script} }, 127},
		{"no format", func(j *Job) { j.Paths = []string{odd} }, 126},
	} {
		j := job(t, "echo ran")
		tt.change(j)
		out, st, err := output(t, j)
		if err != nil || out != "" {
			t.Errorf("%s: %q %v", tt.name, out, err)
			continue
		}
		if ws := st.Sys().(syscall.WaitStatus); ws.Exited() && ws.ExitStatus() != tt.status || ws.Signaled() && -int(ws.Signal()) != tt.status {
			t.Errorf("%s: %v, want %d", tt.name, st, tt.status)
		}
	}
	var status syscall.WaitStatus
	if pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil); err != syscall.ECHILD {
		t.Errorf("a child is left: %d %v", pid, err)
	}
}

// A preparation that hangs is given up, and leaves nothing either.
func TestStartGivesUp(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	j := job(t, "echo ran")
	j.Groups, j.Patience = []string{fifo}, time.Millisecond // nobody reads: open hangs
	out, _, err := output(t, j)
	var failed *Error
	if !errors.As(err, &failed) || out != "" || !strings.Contains(err.Error(), "took longer") {
		t.Errorf("%q, %v", out, err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err == unix.ECHILD {
			return
		}
		if time.Now().After(end) {
			t.Fatal("a child is left")
		}
	}
}

// exitedChild is a pidfd of a process that is dead.
func exitedChild(t *testing.T) *os.File {
	t.Helper()
	p, err := Start(job(t, "exec sleep 1000"))
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(p.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "dead")
	t.Cleanup(func() { f.Close() })
	p.Kill()
	p.Wait()
	return f
}

// A command that is what it comes from must not be this program's file.
func TestSelfIsNoFile(t *testing.T) {
	j := job(t, "")
	j.Paths, j.Args = []string{"/proc/self/exe"}, []string{"/bin/readlink", "/proc/self/exe"}
	out, st, err := output(t, j)
	if err != nil || out != "" || st.ExitCode() != 126 { // the trampoline, which refuses
		t.Errorf("%q %v %v", out, st, err)
	}
}

// A process is a child of this one, and nothing of this one's is open in it.
func TestStartsMany(t *testing.T) {
	before, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 50 {
		j := job(t, `echo $PPID; ls -l /proc/self/fd | grep -c -v -e pipe: -e /dev/null -e /proc/ -e '^total'; exit 3`)
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			text, st, err := output(t, j)
			if err != nil || st.ExitCode() != 3 || !strings.HasSuffix(text, "\n0\n") {
				t.Errorf("%q %v %v", text, st, err)
			}
		})
	}
	wg.Wait()
	after, err := os.ReadDir("/proc/self/fd")
	if err != nil || len(after) != len(before)+100 { // a pidfd and a trampoline for each job
		t.Errorf("%d descriptors before, %d after, %v", len(before), len(after), err)
	}
}
