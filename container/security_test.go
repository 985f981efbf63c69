package container

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/internal/host"
	"github.com/amphora-go/amphora/internal/jail"
	"github.com/amphora-go/amphora/internal/reexec"
)

// dockers are Docker's 14 default capabilities as the kernel prints a set.
const dockers = "00000000a80425fb"

// capLines reads the output of the applet caps.
func capLines(out string) map[string]string {
	m := map[string]string{}
	for _, l := range readLines(out) {
		key, value, _ := strings.Cut(l, ":")
		m[key] = strings.TrimSpace(value)
	}
	return m
}

func bits(names ...string) string {
	var set uint64
	for _, n := range names {
		set |= 1 << slices.Index(jail.AllCaps, "CAP_"+n)
	}
	return fmt.Sprintf("%016x", set)
}

func TestCapabilities(t *testing.T) {
	b := newBench(t)
	var all []string
	for _, n := range host.Capabilities() {
		all = append(all, strings.TrimPrefix(n, "CAP_"))
	}
	for _, tt := range []struct {
		name         string
		s            Security
		user         string
		eff, bnd     string
		nnp, seccomp string
	}{
		{"default", Security{}, "", dockers, dockers, "0", "2"},
		{"not root", Security{}, "alice", bits(), dockers, "0", "2"},
		{"drop all", Security{CapDrop: []string{"all"}}, "", bits(), bits(), "0", "2"},
		{"drop all but", Security{CapDrop: []string{"ALL"}, CapAdd: []string{"CHOWN", "cap_net_admin"}}, "", bits("CHOWN", "NET_ADMIN"), bits("CHOWN", "NET_ADMIN"), "0", "2"},
		{"drop one", Security{CapDrop: []string{"CAP_CHOWN"}}, "", "00000000a80425fa", "00000000a80425fa", "0", "2"},
		{"add one", Security{CapAdd: []string{"SYS_PTRACE"}}, "", "00000000a80c25fb", "00000000a80c25fb", "0", "2"},
		{"add all", Security{CapAdd: []string{"ALL"}}, "", bits(all...), bits(all...), "0", "2"},
		{"privileged", Security{Privileged: true}, "", bits(all...), bits(all...), "0", "0"},
		{"unconfined", Security{Seccomp: Unconfined}, "", dockers, dockers, "0", "0"},
		{"no new privileges", Security{NoNewPrivileges: true}, "", dockers, dockers, "1", "2"},
		{"no new privileges, not root", Security{NoNewPrivileges: true}, "alice", bits(), dockers, "1", "2"},
	} {
		for _, init := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", tt.name, init), func(t *testing.T) {
				t.Parallel()
				out := new(collector)
				c := b.create(t, Spec{Init: init, Security: tt.s, Process: Process{User: tt.user}}, "sh", "-c", "caps; pause")
				if _, err := c.StartAttached(t.Context(), &IO{Stdout: out}); err != nil {
					t.Fatal(err)
				}
				out.await(t, "Seccomp:")
				out.await(t, "NoNewPrivs:")
				for where, text := range map[string]string{"process": out.String(), "exec": execOutput(t, c, "caps"),
					"process 1": execOutput(t, c, "cat", "/proc/1/status")} {
					got := capLines(text)
					for key, want := range map[string]string{"CapEff": tt.eff, "CapPrm": tt.eff, "CapBnd": tt.bnd, "CapInh": bits(), "CapAmb": bits(),
						"NoNewPrivs": tt.nnp, "Seccomp": tt.seccomp} {
						if got[key] != want {
							t.Errorf("%s: %s is %s, want %s", where, key, got[key], want)
						}
					}
				}
			})
		}
	}
}

func TestSetuid(t *testing.T) {
	b := newBench(t)
	for nnp, want := range map[bool]string{false: "0", true: "1000"} {
		c := b.start(t, Spec{Process: Process{User: "alice"}, Security: Security{NoNewPrivileges: nnp}}, "pause")
		x := c.Command(t.Context(), "chmod", "4755", "/bin/testbox")
		x.User = "root"
		if err := x.Run(); err != nil {
			t.Fatal(err)
		}
		if got := execOutput(t, c, "testbox", "id", "-u"); got != want {
			t.Errorf("no new privileges %v: a setuid program runs as %s", nnp, got)
		}
	}
}

func TestSeccompProbes(t *testing.T) {
	b := newBench(t)
	// The filter's own answers, by Docker's profile for the default
	// capabilities. What it lets through, the kernel answers in its way.
	want := map[string]string{"unshare": "EPERM", "mount": "EPERM", "bpf": "EPERM", "keyctl": "EPERM", "add_key": "EPERM", "clone3": "ENOSYS",
		"nr9999": "ENOSYS", "setns": "EPERM", "pivot_root": "EPERM", "perf_event_open": "EPERM", "kexec_load": "EPERM", "init_module": "EPERM",
		"reboot": "EPERM", "open_by_handle_at": "EPERM", "userfaultfd": "EPERM", "personality-odd": "EPERM", "personality-query": "ok", "getpid": "ok"}
	var names []string
	for n := range want {
		names = append(names, n)
	}
	check := func(t *testing.T, where, out string) {
		for _, l := range readLines(out) {
			name, got, _ := strings.Cut(l, " ")
			if want[name] != got {
				t.Errorf("%s: %s gives %s, want %s", where, name, got, want[name])
			}
		}
	}
	c := b.start(t, Spec{}, append([]string{"seccomp-probe"}, names...)...)
	wait(t, c)
	check(t, "process", logText(t, c))
	c = b.start(t, Spec{}, "pause")
	check(t, "exec", execOutput(t, c, append([]string{"seccomp-probe"}, names...)...))
	x := c.Command(t.Context(), "seccomp-probe", "unshare", "mount")
	x.User = "alice"
	out, err := x.Output()
	if err != nil {
		t.Fatal(err)
	}
	check(t, "exec of another user", string(out))
	if got := b.output(t, Spec{Security: Security{Seccomp: Unconfined}}, "seccomp-probe", "unshare"); got != "unshare EINVAL" {
		t.Errorf("unconfined: %s, which is not the kernel's answer", got)
	}
	if got := b.output(t, Spec{Security: Security{CapAdd: []string{"SYS_ADMIN"}}}, "seccomp-probe", "setns"); got != "setns EBADF" {
		t.Errorf("the filter does not follow the capabilities: %s", got)
	}
}

func TestSeccompProfile(t *testing.T) {
	b := newBench(t)
	profile, err := json.Marshal(map[string]any{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []any{
		map[string]any{"names": []string{"mkdir", "mkdirat"}, "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
	}})
	if err != nil {
		t.Fatal(err)
	}
	spec := Spec{Security: Security{Seccomp: string(profile)}}
	out, err := b.command(t, spec, "mkdir", "/x").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "no space left") {
		t.Errorf("%q, %v", out, err)
	}
	// A profile that would stop init itself is refused or fails; it never runs
	// unconfined.
	for name, p := range map[string]string{
		"notify": `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]}`,
		"execve": `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["execve"],"action":"SCMP_ACT_ERRNO"}]}`,
		"all":    `{"defaultAction":"SCMP_ACT_ERRNO"}`,
		"kill":   `{"defaultAction":"SCMP_ACT_KILL_PROCESS"}`,
	} {
		out, err := b.command(t, Spec{Security: Security{Seccomp: p}}, "echo", "ran").CombinedOutput()
		if err == nil || strings.Contains(string(out), "ran") {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
}

// The filter is installed by hooks on messages of libcontainer.
func TestLibcontainerStillSaysIt(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/opencontainers/runc").Output()
	if err != nil {
		t.Fatal(err)
	}
	src := strings.TrimSpace(string(dir)) + "/libcontainer/"
	for file, want := range map[string]string{
		"standard_init_linux.go":       `logrus.Debugf("` + reexec.MessageInit + `")`,
		"setns_init_linux.go":          `logrus.Debugf("` + reexec.MessageSetns + `")`,
		"capabilities/capabilities.go": `logrus.Warn("ignoring unknown or unavailable capabilities: "`,
	} {
		if !strings.Contains(hostFile(t, src+file), want) {
			t.Errorf("%s of the pinned version lacks %s", file, want)
		}
	}
}

// Without its filter a process does not run: a damaged one stops init and exec.
func TestSeccompFailsClosed(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{}, "echo", "ran")
	wait(t, c)
	files, err := filepath.Glob(filepath.Join(b.root.Dir, "seccomp", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no compiled filter: %v", err)
	}
	before := logText(t, c)
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for name, broken := range map[string][]byte{"empty": {}, "cut": data[:len(data)/2], "damaged": append(slices.Clone(data[:len(data)-4]), 0xff, 0xff, 0xff, 0xff)} {
			if err := os.WriteFile(f, broken, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := c.Start(t.Context()); err == nil {
				wait(t, c)
				t.Errorf("%s: it started", name)
			}
			if got := logText(t, c); got != before {
				t.Errorf("%s: it ran: %q", name, got)
			}
		}
		os.Remove(f)
	}
	if err := c.Start(t.Context()); err == nil {
		t.Error("it started without the file of its filter")
	}
}

func TestMaskedPaths(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{}, "pause")
	for _, p := range []string{"/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/sys/kernel", "/sys/fs/cgroup/memory", "/proc/irq"} {
		if p != "/proc/sysrq-trigger" {
			if err := c.Command(t.Context(), "sh", "-c", "echo x > "+p+"/x || echo x > "+p).Run(); err == nil {
				t.Errorf("%s can be written", p)
			}
		}
	}
	if err := c.Command(t.Context(), "test", "-w", "/proc/sysrq-trigger").Run(); err == nil {
		t.Error("/proc/sysrq-trigger can be written")
	}
	if got := execOutput(t, c, "sh", "-c", "cat /proc/kcore; cat /proc/keys; cat /proc/timer_list; ls /sys/firmware; ls /proc/acpi || true"); strings.Trim(got, "\n") != "" && !strings.Contains(got, "no such file") {
		t.Errorf("masked paths show %q", got)
	}
	open := b.start(t, Spec{Security: Security{UnmaskPaths: true}}, "pause")
	if err := open.Command(t.Context(), "test", "-s", "/proc/keys").Run(); err == nil {
		return
	}
	if err := open.Command(t.Context(), "sh", "-c", "sysctl kernel.msgmax=9001").Run(); err != nil {
		t.Errorf("unmasked, but %v", err)
	}
}

func TestReadOnlyRoot(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{Security: Security{ReadOnly: true}}, "pause")
	for _, f := range []string{"/x", "/etc/x", "/dev/x"} {
		err := c.Command(t.Context(), "touch", f).Run()
		if (err == nil) != (f == "/dev/x") {
			t.Errorf("touch %s: %v", f, err)
		}
	}
	execOutput(t, c, "touch", "/dev/shm/x")
}

// Nothing of the host's may be open inside, and nothing of the client's
// environment be known.
func TestNothingLeaksIn(t *testing.T) {
	t.Setenv("SECRET_OF_THE_CLIENT", "x")
	b := newBench(t)
	for _, tty := range []bool{false, true} {
		c := b.start(t, Spec{Process: Process{TTY: tty, Stdin: true}}, "sh", "-c", "fds; env; exec pause")
		eventually(t, "output", func() bool { return strings.Contains(logText(t, c), "HOME=") })
		eventually(t, "the shell is gone", func() bool {
			return strings.HasPrefix(execOutput(t, c, "cat", "/proc/1/cmdline"), "pause")
		})
		checkInitFDs(t, inspect(t, c).Pid)
		x := c.Command(t.Context(), "sh", "-c", "fds; env")
		x.TTY = tty
		x.Stdin = strings.NewReader("")
		out, err := x.Output()
		if err != nil {
			t.Fatal(err)
		}
		for where, text := range map[string]string{"process": logText(t, c), "exec": string(out)} {
			var fds int
			for _, l := range readLines(strings.ReplaceAll(text, "\r", "")) {
				if len(l) > 1 && l[0] >= '0' && l[0] <= '9' {
					fds++
					if l[0] > '2' || l[1] != ' ' || !strings.Contains(l, "pipe:") && !strings.Contains(l, "/dev/") {
						t.Errorf("%s: descriptor %s", where, l)
					}
				}
			}
			if fds != 3 {
				t.Errorf("%s: %d descriptors in %q", where, fds, text)
			}
			if strings.Contains(text, "SECRET") || strings.Contains(text, "LIBCONTAINER") || strings.Contains(text, "AMPHORA") {
				t.Errorf("%s: environment %q", where, text)
			}
		}
	}
}

func TestAppArmorAskedFor(t *testing.T) {
	if _, err := os.Stat("/sys/module/apparmor/parameters/enabled"); err == nil {
		t.Skip("this machine has AppArmor")
	}
	b := newBench(t)
	err := b.command(t, Spec{Security: Security{AppArmor: "nosuch"}}, "true").Run()
	if err == nil {
		t.Error("a profile that was asked for is not there, and it ran")
	}
}
