package testenv

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// envLeak names what TestLeaks leaves behind in a run of its own.
const envLeak = "AMPHORA_TESTENV_LEAK"

func init() {
	if os.Getenv(envLeak) != "" {
		grace = 500 * time.Millisecond // what these runs leak never goes away
	}
}

// kept keeps what was leaked from being collected.
var kept []any

// leaky leaves something behind and says what the check must print about it.
var leaky = map[string]struct {
	leave func(t *testing.T) error
	print string
	root  bool
}{
	"nothing": {leave: func(*testing.T) error { return nil }},
	"process": {print: "process ", leave: func(t *testing.T) error {
		cmd := exec.Command("sleep", "1000")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			return err
		}
		return os.WriteFile(os.Getenv(envLeak+"_PID"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600)
	}},
	"daemon": {print: "process ", leave: func(t *testing.T) error { // its parent is gone: nobody but the subreaper knows it
		return exec.Command("sh", "-c", "sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >"+os.Getenv(envLeak+"_PID")).Run()
	}},
	"descriptor": {print: "descriptor ", leave: func(t *testing.T) error {
		f, err := os.Open(os.DevNull)
		kept = append(kept, f)
		return err
	}},
	"goroutine": {print: "goroutine that does not end", leave: func(t *testing.T) error { go forever(); return nil }},
	"file": {print: "temporary file: ", leave: func(t *testing.T) error {
		_, err := os.MkdirTemp("", "left")
		return err
	}},
	"mount": {root: true, print: "mount: ", leave: func(t *testing.T) error {
		dir, err := os.MkdirTemp("", "left")
		return errors.Join(err, unix.Mount("none", dir, "tmpfs", 0, ""))
	}},
	"thread": {root: true, print: "thread in another namespace: net:", leave: func(t *testing.T) error {
		done := make(chan error)
		go func() {
			runtime.LockOSThread()
			done <- unix.Unshare(unix.CLONE_NEWNET)
			forever()
		}()
		return <-done
	}},
	"named namespace": {root: true, print: "mount: ", leave: func(t *testing.T) error {
		f, err := os.CreateTemp("", "netns")
		if err != nil {
			return err
		}
		f.Close()
		done := make(chan error)
		go func() { // the thread ends with the goroutine: only the mount keeps the namespace
			runtime.LockOSThread()
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				done <- err
				return
			}
			done <- unix.Mount("/proc/thread-self/ns/net", f.Name(), "", unix.MS_BIND, "")
		}()
		return <-done
	}},
	"cgroup": {root: true, print: "cgroup: ", leave: func(t *testing.T) error {
		return os.MkdirAll(filepath.Join(someCgroup(t), "amphora-"+OwnID(t), "container"), 0o755)
	}},
	"link": {root: true, print: "network link: ", leave: func(t *testing.T) error {
		dir := Dir(t) // the id is learnt from a Root that is gone when the check looks
		id := OwnID(t)
		err := os.WriteFile(filepath.Join(dir, "engine.json"), []byte(`{"version":"1","id":"`+id+`"}`), 0o600)
		if err := os.Remove(filepath.Join(runDir, idsFile)); err != nil {
			return err
		}
		// A bridge alone stays as long as its Root; one with a port is a leak.
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "amp" + id[:4] + "abcdef"}}
		err = errors.Join(err, netlink.LinkAdd(br))
		return errors.Join(err, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "ampv" + id[:4], MasterIndex: br.Index}, PeerName: "ampw" + id[:4]}))
	}},
}

func forever() { select {} }

func someCgroup(t *testing.T) string {
	for _, m := range mounts() {
		_, kind, _ := strings.Cut(m.line, " - ")
		if strings.HasPrefix(kind, "cgroup2 ") || strings.HasPrefix(kind, "cgroup ") && strings.HasSuffix(m.target, "pids") {
			return m.target
		}
	}
	t.Fatal("no cgroup hierarchy")
	return ""
}

// TestLeaks runs this binary again for each kind of leak and expects the run to
// fail, to say why, and to clean up.
func TestLeaks(t *testing.T) {
	if kind := os.Getenv(envLeak); kind != "" {
		if err := leaky[kind].leave(t); err != nil {
			t.Fatal(err)
		}
		return
	}
	for kind, l := range leaky {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			if l.root {
				Root(t)
			}
			pidFile := filepath.Join(t.TempDir(), "pid")
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(exe, "-test.run=^TestLeaks$")
			cmd.Env = append(os.Environ(), envLeak+"="+kind, envLeak+"_PID="+pidFile)
			out, err := cmd.CombinedOutput()
			if l.print == "" {
				if err != nil {
					t.Fatalf("a clean run failed: %v\n%s", err, out)
				}
				return
			}
			if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), l.print) {
				t.Fatalf("%v, want exit status 1 and %q in:\n%s", err, l.print, out)
			}
			if data, err := os.ReadFile(pidFile); err == nil {
				pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
				if pid < 2 || syscall.Kill(pid, 0) == nil {
					t.Errorf("process %d is still there", pid)
				}
			}
			for line := range strings.Lines(string(out)) {
				if dir, ok := strings.CutPrefix(strings.TrimSpace(line), "cgroup: "); ok {
					if _, err := os.Stat(dir); err == nil {
						t.Errorf("%s is still there", dir)
					}
				}
			}
		})
	}
}

// TestSignalsAreReported: tests that are killed end the run as a shell would say.
func TestSignalsAreReported(t *testing.T) {
	if os.Getenv(envLeak) != "" {
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestKillsItself$")
	cmd.Env = append(os.Environ(), envLeak+"=itself")
	out, _ := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 137 || !strings.Contains(string(out), "killed") {
		t.Fatalf("exit code %d:\n%s", cmd.ProcessState.ExitCode(), out)
	}
}

func TestKillsItself(t *testing.T) {
	if os.Getenv(envLeak) == "itself" {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		forever()
	}
}
