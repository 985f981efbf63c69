package container

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/amphora-go/amphora/network"
)

// An exec has two ways: through libcontainer, and a shorter one.

// ways runs f for each.
func ways(t *testing.T, f func(t *testing.T, long bool)) {
	for name, long := range map[string]bool{"short": false, "long": true} {
		t.Run(name, func(t *testing.T) { f(t, long) })
	}
}

// isShort reports whether an exec goes the shorter way. There a script
// without its interpreter ends with a status of its own.
func isShort(t *testing.T, c *Container, change func(*Exec)) bool {
	t.Helper()
	x := c.Command(t.Context(), "/bad")
	if change != nil {
		change(x)
	}
	err := x.Run()
	switch Code(err) {
	case 127:
		return true
	case 255:
		return false
	}
	t.Fatalf("a script without its interpreter: %v", err)
	return false
}

// addBad puts that script into the container. It needs a root that can be
// written.
func addBad(t *testing.T, c *Container) {
	t.Helper()
	x := c.Command(t.Context(), "sh", "-c", "echo '#!/nosuch' > /bad; chmod 0755 /bad")
	x.User = "root"
	if out, err := x.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// changing is what differs between two processes that are alike. Signals are
// what the command's Go runtime has made of them.
var changing = regexp.MustCompile(`(?m)^(Pid|Tgid|Ngid|NStgid|NSpid|NSpgid|NSsid|PPid|Vm\w+|Rss\w+|Hugetlb\w+|Threads|SigQ|SigCgt|SigBlk|\w+_ctxt_switches|untag_mask|x86_Thread\w+|State|Speculation\w+):.*\n`)

// portrait is all that the host can see of a process and that must not depend
// on how it was started.
func portrait(t *testing.T, pid int) map[string]string {
	t.Helper()
	dir := "/proc/" + strconv.Itoa(pid)
	m := map[string]string{"status": changing.ReplaceAllString(hostFile(t, dir+"/status")+"\n", "")}
	for _, f := range []string{"cgroup", "limits", "oom_score_adj", "cmdline", "environ", "personality", "coredump_filter", "loginuid",
		"sessionid", "setgroups", "timerslack_ns", "comm", "fdinfo/0", "fdinfo/1", "fdinfo/2", "patch_state", "attr/current"} {
		data, err := os.ReadFile(dir + "/" + f)
		m[f] = string(data)
		if err != nil {
			m[f] = "cannot be read"
		}
	}
	for _, f := range []string{"fdinfo/0", "fdinfo/1", "fdinfo/2"} {
		m[f] = regexp.MustCompile(`ino:.*`).ReplaceAllString(m[f], "")
	}
	links, err := filepath.Glob(dir + "/ns/*")
	fds, ferr := filepath.Glob(dir + "/fd/*")
	if err != nil || ferr != nil || len(links) < 8 {
		t.Fatal(links, err, ferr)
	}
	for _, l := range slices.Concat(links, fds, []string{dir + "/cwd", dir + "/root", dir + "/exe"}) {
		to, err := os.Readlink(l)
		if strings.HasPrefix(to, "anon_inode:[event") || errors.Is(err, fs.ErrNotExist) {
			continue // of the Go runtime of the command, or closed meanwhile
		}
		if err != nil {
			t.Fatal(err)
		}
		m[strings.TrimPrefix(l, dir)] = regexp.MustCompile(`(pipe|anon_inode|event\w*|pidfd):\[?.*`).ReplaceAllString(to, "$1")
	}
	// ppid, pgrp, session, tty, flags, ..., exit signal, processor
	stat := strings.Fields(hostFile(t, dir+"/stat"))
	own := func(n string) string { return map[bool]string{true: "own", false: "other"}[n == stat[0]] }
	m["parent"], m["group"], m["session"], m["tty"] = stat[3], own(stat[4]), own(stat[5]), stat[6]
	m["priority"], m["exit signal"], m["policy"] = stat[17]+" "+stat[18], stat[37], stat[39]+" "+stat[40]
	return m
}

// Whichever way a process came, it is the same.
func TestExecWaysAreAlike(t *testing.T) {
	b := newBench(t)
	odd := Resources{OOMScoreAdj: 321, Pids: 200, CPUSet: "0", Ulimits: []Ulimit{{"nofile", 100, 200}, {"core", 0, 0}}}
	denied := `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]}`
	for _, tt := range []struct {
		name   string
		spec   Spec
		change func(*Exec)
		short  bool
	}{
		{"plain", Spec{}, nil, true},
		{"no streams", Spec{}, func(x *Exec) { x.Stdin, x.Stdout = nil, nil }, true},
		{"resources", Spec{Resources: odd}, nil, true},
		{"user", Spec{Process: Process{User: "alice", Groups: []string{"daemon", "4711"}, Dir: "/home/alice"}}, nil, true},
		{"other user", Spec{}, func(x *Exec) { x.User, x.Dir, x.Env = "1234:5678", "/tmp", []string{"A=1", "PATH=/bin", "A=2"} }, true},
		{"no new privileges", Spec{Security: Security{NoNewPrivileges: true}, Process: Process{User: "alice"}}, nil, true},
		{"read-only", Spec{Security: Security{ReadOnly: true}}, nil, true},
		{"no capabilities", Spec{Security: Security{CapDrop: []string{"ALL"}}}, nil, true},
		{"more capabilities", Spec{Security: Security{CapAdd: []string{"NET_ADMIN", "SYS_TIME"}}}, nil, true},
		{"unconfined", Spec{Security: Security{Seccomp: Unconfined}}, nil, true},
		{"own profile", Spec{Security: Security{Seccomp: denied}}, nil, true},
		{"no execveat", Spec{Security: Security{Seccomp: strings.ReplaceAll(denied, "mkdir", "execveat")}}, nil, false},
		{"host network", Spec{Networks: []network.Endpoint{{Network: network.Host}}}, nil, true},
		{"no network", Spec{Networks: []network.Endpoint{{Network: network.None}}}, nil, true},
		{"init", Spec{Init: true}, nil, true},
		{"ptrace", Spec{Security: Security{CapAdd: []string{"SYS_PTRACE"}}}, nil, false},
		{"privileged", Spec{Security: Security{Privileged: true}}, nil, false},
		{"privileged exec", Spec{}, func(x *Exec) { x.Privileged = true }, false},
		{"no home", Spec{}, func(x *Exec) { x.Env = []string{"HOME="} }, false},
		{"no search", Spec{}, func(x *Exec) { x.Env = []string{"PATH"} }, true},
		{"odd path", Spec{}, func(x *Exec) { x.Env = []string{"PATH=bin:/bin"} }, true}, // the script has a slash
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := b.start(t, tt.spec, "pause")
			var pids [2]int
			for i, long := range []bool{true, false} {
				x := c.Command(t.Context(), "/bin/pause")
				x.Stdin, x.Stdout, x.long = strings.NewReader(""), new(collector), long
				if tt.change != nil {
					tt.change(x)
				}
				if err := x.Start(); err != nil {
					t.Fatal(err)
				}
				defer func() {
					x.Signal("KILL")
					x.Wait()
				}()
				pids[i] = x.Pid
			}
			// While the command starts, its own Go runtime changes this and that.
			var long, short map[string]string
			for end := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
				long, short = portrait(t, pids[0]), portrait(t, pids[1])
				if strings.Contains(long["cmdline"], "pause") && maps.Equal(long, short) || time.Now().After(end) {
					break
				}
			}
			for key, want := range long {
				if got, ok := short[key]; !ok || got != want {
					t.Errorf("%s: by libcontainer\n%s\nbut here\n%s", key, want, got)
				}
			}
			if len(long) != len(short) {
				t.Errorf("%d properties by libcontainer, %d here", len(long), len(short))
			}
			if tt.spec.Security.ReadOnly {
				return
			}
			addBad(t, c)
			if got := isShort(t, c, tt.change); got != tt.short {
				t.Errorf("the shorter way was taken: %v", got)
			}
		})
	}
}

func TestExecSignals(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{}, "pause")
	ways(t, func(t *testing.T, long bool) {
		x := c.Command(t.Context(), "cat", "/proc/self/status")
		x.long = long
		out, err := x.Output()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			// 32 and 33 are the C library's own: nobody can set them, and whoever
			// started this test may have them ignored.
			name, set, _ := strings.Cut(strings.TrimSpace(line), ":\t")
			if name != "SigBlk" && name != "SigIgn" && name != "SigPnd" {
				continue
			}
			if bits, err := strconv.ParseUint(set, 16, 64); err != nil || bits&^(3<<31) != 0 {
				t.Errorf("%s (%v)", line, err)
			}
		}
	})
}

func TestExecWaysFailAlike(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{}, "pause")
	addBad(t, c)
	execOutput(t, c, "sh", "-c", "mkdir /closed; mkdir /closed/in; chmod 0700 /closed; echo x > /text; chmod 0644 /text; mkdir /dir; ln -s /nosuch /dangling; "+
		"ln -s /proc/1/fd/0 /odd; mkdir /gone")
	for _, tt := range []struct {
		name string
		x    execCase
		kind error
		code int
	}{
		{"missing", execCase{Args: []string{"nosuch"}}, exec.ErrNotFound, 127},
		{"missing by path", execCase{Args: []string{"/nosuch"}}, exec.ErrNotFound, 127},
		{"dangling", execCase{Args: []string{"/dangling"}}, exec.ErrNotFound, 127},
		{"not executable", execCase{Args: []string{"/text"}}, fs.ErrPermission, 126},
		{"not executable in path", execCase{Args: []string{"text"}, Env: []string{"PATH=/"}}, exec.ErrNotFound, 127},
		{"directory", execCase{Args: []string{"/dir"}}, fs.ErrPermission, 126},
		{"not for this user", execCase{Args: []string{"/closed/in/x"}, User: "alice"}, fs.ErrPermission, 126},
		{"missing dir", execCase{Args: []string{"true"}, Dir: "/nosuch"}, nil, 125},
		{"file as dir", execCase{Args: []string{"true"}, Dir: "/text"}, nil, 125},
		{"outside", execCase{Args: []string{"true"}, Dir: "/proc/self/fd/7"}, nil, 125},
		{"dot", execCase{Args: []string{"."}}, exec.ErrNotFound, 127},
		{"no path", execCase{Args: []string{"true"}, Env: []string{"PATH"}}, exec.ErrNotFound, 127},
		{"relative path", execCase{Args: []string{"true"}, Env: []string{"PATH=bin"}}, nil, 125},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ways(t, func(t *testing.T, long bool) {
				x := c.Command(t.Context(), tt.x.Args...)
				x.User, x.Dir, x.Env, x.long = tt.x.User, tt.x.Dir, tt.x.Env, long
				if _, err := x.Output(); Code(err) != tt.code || tt.kind != nil && !errors.Is(err, tt.kind) {
					t.Errorf("error %v (code %d), want %v, %d", err, Code(err), tt.kind, tt.code)
				} else if t.Logf("%v", err); strings.Contains(err.Error(), "AMPHORA") {
					t.Errorf("error %v", err)
				}
			})
		})
	}
	// None of them left anything, also not below the supervisor.
	if pids, err := c.Pids(t.Context()); err != nil || len(pids) != 1 {
		t.Errorf("processes %v, %v", pids, err)
	}
	supervisor := strings.Fields(hostFile(t, fmt.Sprintf("/proc/%d/stat", inspect(t, c).Pid)))[3]
	eventually(t, "the supervisor has one child", func() bool {
		return len(strings.Fields(hostFile(t, "/proc/"+supervisor+"/task/"+supervisor+"/children"))) == 1
	})
}

// After an exec with all capabilities a process may be inside that could look
// into the shorter way's.
func TestExecIsLongAfterPrivileged(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{}, "pause")
	addBad(t, c)
	if !isShort(t, c, nil) {
		t.Error("the way is long before")
	}
	if isShort(t, c, func(x *Exec) { x.Privileged = true }) {
		t.Error("the way is short for a privileged process")
	}
	if isShort(t, c, nil) {
		t.Error("the way is short after a privileged process")
	}
}

// A process that is being prepared must be of no use to the container's root,
// who sees it and may send it signals.
func TestExecIsOpaque(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{}, "pause")
	out := new(collector)
	x := c.Command(t.Context(), "snoop", "2")
	x.Stdout, x.Stderr = out, out
	if err := x.Start(); err != nil {
		t.Fatal(err)
	}
	out.await(t, "snooping")
	done := make(chan error, 1)
	go func() { done <- x.Wait() }()
	for {
		select {
		case err := <-done:
			if text := out.String(); err != nil || strings.Contains(text, "leak") || !strings.Contains(text, "seen") {
				t.Errorf("the observer says %q, %v", text, err)
			} else {
				t.Log(text)
			}
			return
		default:
			execOutput(t, c, "true")
		}
	}
}

// The program that an exec comes from is a file of the host: no process inside
// may get hold of it by executing itself.
func TestExecOfItself(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{}, "pause")
	execOutput(t, c, "sh", "-c", "ln -s /proc/self/exe /self; echo '#!/proc/self/exe' > /script; chmod 0755 /script")
	for _, command := range []string{"/self", "/proc/self/exe", "/script", "/proc/thread-self/exe"} {
		x := c.Command(t.Context(), command, "/bin/testbox", "echo", "ran")
		if out, err := x.CombinedOutput(); Code(err) != 126 || len(out) > 0 {
			t.Errorf("%s: %q, %v", command, out, err)
		}
	}
}

func TestExecInDyingContainer(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{}, "pause")
	ended := make(chan error)
	for i := range 4 {
		go func() {
			for {
				x := c.Command(t.Context(), "true")
				x.long = i == 0
				if err := x.Run(); err != nil {
					ended <- err
					return
				}
			}
		}()
	}
	if err := c.Signal(t.Context(), "KILL"); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if err := <-ended; Code(err) == 126 || Code(err) == 127 {
			t.Errorf("the command is blamed: %v", err)
		}
	}
	wait(t, c)
}
