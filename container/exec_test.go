package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// execCase is what a case sets of an Exec.
type execCase struct {
	Args, Env     []string
	Dir, User     string
	TTY           bool
	Width, Height uint16
}

func TestExec(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{Process: Process{Env: []string{"A=container", "B=b"}, Dir: "/data"}}, "pause")
	alice := b.start(t, Spec{Process: Process{User: "alice", Groups: []string{"daemon", "4711"}}}, "pause")
	for _, tt := range []struct {
		name string
		x    execCase
		want string // a line of the output
	}{
		{"env of the container", execCase{Args: []string{"env"}}, "A=container"},
		{"env laid over", execCase{Args: []string{"env"}, Env: []string{"A=exec"}}, "A=exec"},
		{"home", execCase{Args: []string{"env"}}, "HOME=/root"},
		{"home of another user", execCase{Args: []string{"env"}, User: "alice"}, "HOME=/home/alice"},
		{"home asked for", execCase{Args: []string{"env"}, User: "alice", Env: []string{"HOME=/x"}}, "HOME=/x"},
		{"dir of the container", execCase{Args: []string{"pwd"}}, "/data"},
		{"dir", execCase{Args: []string{"pwd"}, Dir: "/tmp"}, "/tmp"},
		{"user by name", execCase{Args: []string{"id"}, User: "alice"}, "uid=1000(alice) gid=1000(alice) groups=10(wheel),29(audio)"},
		{"user and group by number", execCase{Args: []string{"id"}, User: "1234:5678"}, "uid=1234 gid=5678 groups="},
		{"user and group by name", execCase{Args: []string{"id"}, User: "bob:audio"}, "uid=1001(bob) gid=29(audio) groups="},
		{"caps of root", execCase{Args: []string{"caps"}}, "CapEff: 00000000a80425fb"},
		{"no caps for others", execCase{Args: []string{"caps"}, User: "alice"}, "CapEff: 0000000000000000"},
		{"bounding set for others", execCase{Args: []string{"caps"}, User: "alice"}, "CapBnd: 00000000a80425fb"},
		{"filter", execCase{Args: []string{"caps"}, User: "alice"}, "Seccomp: 2"},
		{"oom score", execCase{Args: []string{"cat", "/proc/self/oom_score_adj"}}, "0"},
		{"no terminal", execCase{Args: []string{"sh", "-c", "tty || echo none"}}, "not a tty"},
		{"terminal", execCase{Args: []string{"tty"}, TTY: true, Width: 91, Height: 17}, "tty /dev/pts/0 17 91"},
		{"blocking pipes", execCase{Args: []string{"cat", "/proc/self/fdinfo/1"}}, "flags:\t01"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := c.Command(t.Context(), tt.x.Args...)
			x.Env, x.Dir, x.User, x.TTY, x.Width, x.Height = tt.x.Env, tt.x.Dir, tt.x.User, tt.x.TTY, tt.x.Width, tt.x.Height
			out, err := x.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for _, l := range readLines(strings.ReplaceAll(string(out), "\r\n", "\n")) {
				if l == tt.want || strings.HasPrefix(l, "groups=") && l == tt.want || l == strings.TrimSpace(tt.want) {
					return
				}
			}
			t.Errorf("no line %q in %q", tt.want, out)
		})
	}
	if got := execOutput(t, alice, "id"); got != "uid=1000(alice) gid=1000(alice) groups=1(daemon),10(wheel),29(audio),4711" {
		t.Errorf("groups of the container: %s", got)
	}
}

func TestExecIsInTheContainersGroups(t *testing.T) {
	b := newBench(t)
	for name, r := range map[string]Resources{
		"plain":   {},
		"crowded": {Pids: 13}, // hardly enough for the processes that prepare an exec
	} {
		c := b.start(t, Spec{Resources: r}, "pause")
		first, own := execOutput(t, c, "cat", "/proc/1/cgroup"), execOutput(t, c, "cat", "/proc/self/cgroup")
		if first != own || own == "" {
			t.Errorf("%s: the first process is in %s, an exec in %s", name, first, own)
		}
	}
}

func TestExecPrivileged(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{}, "pause")
	x := c.Command(t.Context(), "caps")
	x.Privileged = true
	out, err := x.Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "CapEff: 00000000a80425fb") || strings.Contains(string(out), "CapEff: 0000000000000000") {
		t.Errorf("a privileged exec has %s", out)
	}
}

func TestExecFails(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{}, "pause")
	for _, tt := range []struct {
		name string
		x    execCase
		kind error
		code int
	}{
		{"code", execCase{Args: []string{"exit", "9"}}, nil, 9},
		{"signal", execCase{Args: []string{"sh", "-c", "kill -KILL $$"}}, nil, 137},
		{"no command", execCase{}, fs.ErrInvalid, 125},
		{"missing", execCase{Args: []string{"nosuch"}}, exec.ErrNotFound, 127},
		{"missing on a terminal", execCase{Args: []string{"nosuch"}, TTY: true}, exec.ErrNotFound, 127},
		{"not executable", execCase{Args: []string{"/etc/passwd"}}, fs.ErrPermission, 126},
		{"unknown user", execCase{Args: []string{"true"}, User: "nosuch"}, fs.ErrInvalid, 125},
		{"missing dir", execCase{Args: []string{"true"}, Dir: "/nosuch"}, nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := c.Command(t.Context(), tt.x.Args...)
			x.User, x.Dir, x.TTY = tt.x.User, tt.x.Dir, tt.x.TTY
			_, err := x.Output()
			if tt.code == 0 {
				if err == nil {
					t.Error("no error")
				}
				return
			}
			if Code(err) != tt.code || tt.kind != nil && !errors.Is(err, tt.kind) {
				t.Errorf("error %v (code %d), want %v, %d", err, Code(err), tt.kind, tt.code)
			}
		})
	}
	// None of them left anything.
	if pids, err := c.Pids(t.Context()); err != nil || len(pids) != 1 {
		t.Errorf("processes %v, %v", pids, err)
	}
}

func TestExecCancel(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{}, "pause")
	ctx, cancel := context.WithCancel(t.Context())
	x := c.Command(ctx, "pause")
	if err := x.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process of that number is the command", func() bool {
		return strings.Contains(hostFile(t, fmt.Sprintf("/proc/%d/cmdline", x.Pid)), "pause")
	})
	cancel()
	err := x.Wait()
	is(t, err, context.Canceled)
	if Code(err) != 137 {
		t.Errorf("code %d", Code(err))
	}
	// A signal other than that.
	out := new(collector)
	x = c.Command(t.Context(), "trap", "-x", "6")
	x.Stdout = out
	if err := x.Start(); err != nil {
		t.Fatal(err)
	}
	out.await(t, "ready")
	if err := x.Signal("TERM"); err != nil {
		t.Fatal(err)
	}
	if got := Code(x.Wait()); got != 6 {
		t.Errorf("code %d", got)
	}
	// The container's end is the end of its execs.
	x = c.Command(t.Context(), "pause")
	if err := x.Start(); err != nil {
		t.Fatal(err)
	}
	if err := c.Signal(t.Context(), "KILL"); err != nil {
		t.Fatal(err)
	}
	if x.Wait() == nil {
		t.Error("an exec ended cleanly with its container")
	}
}

func TestConcurrentExecs(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{}, "pause")
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			x := c.Command(t.Context(), "cat")
			x.long = i%10 == 0
			x.Stdin = strings.NewReader(fmt.Sprint(i))
			out, err := x.Output()
			if err != nil || string(out) != fmt.Sprint(i) {
				t.Errorf("exec %d: %q, %v", i, out, err)
			}
		})
	}
	wg.Wait()
}

// Environments and argument lists longer than a packet travel too.
func TestExecLongRequest(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{}, "pause")
	long := strings.Repeat("x", 100<<10)
	x := c.Command(t.Context(), "sh", "-c", "echo $LONG")
	x.Env = []string{"LONG=" + long, "MORE=" + long}
	out, err := x.Output()
	if err != nil || strings.TrimSpace(string(out)) != long {
		t.Errorf("%d bytes, %v", len(out), err)
	}
}
