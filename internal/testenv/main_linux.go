package testenv

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// grace is how long what tests left may take to go away by itself: the kernel
// frees namespaces and cgroups behind the back of who ended them.
var grace = 5 * time.Second

// The main goroutine stays on the main thread: the runtime cannot end that
// thread, so a test that changed its namespaces would keep them for the rest of
// the process.
func init() { runtime.LockOSThread() }

// ownNetwork is set in the environment of all processes of a run that has a
// network namespace of its own.
const ownNetwork = "AMPHORA_TESTENV_NETWORK"

// OwnNetwork gives the run a network namespace of its own as its host, in which
// not even the loopback interface is up, and reports whether this is the first
// process in it. It is for root, and called before Main: Main starts the
// process that runs the tests from this thread.
func OwnNetwork() bool {
	if os.Geteuid() != 0 || os.Getenv(ownNetwork) != "" {
		return false
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		fmt.Fprintln(os.Stderr, "testenv: unshare:", err)
		os.Exit(1)
	}
	os.Setenv(ownNetwork, "1")
	return true
}

// run is the part of Main that differs between systems.
func run(m *testing.M) int {
	if runDir != "" {
		return inner(m)
	}
	if slices.ContainsFunc(os.Args[1:], unsupervised) {
		return m.Run()
	}
	code, err := outer()
	if err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		return 1
	}
	return code
}

// unsupervised says which flags mean that no test runs or that the process
// must stay the one that go test started: a fuzz worker talks to its parent
// over inherited descriptors.
func unsupervised(arg string) bool {
	arg = strings.TrimLeft(arg, "-")
	return strings.HasPrefix(arg, "test.fuzzworker") || strings.HasPrefix(arg, "test.list")
}

// inner runs the tests and checks what belongs to this process itself.
func inner(m *testing.M) int {
	before := seeSelf()
	code := m.Run()
	leaks := settle(func() []string {
		http.DefaultClient.CloseIdleConnections()
		return before.leaks(seeSelf())
	})
	if report("this process", leaks) && code == 0 {
		code = 1
	}
	return code
}

// outer runs the tests in a child and checks what is left on the machine.
func outer() (int, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("become a subreaper: %w", err)
	}
	dir, err := os.MkdirTemp("", "ampt")
	if err != nil {
		return 0, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // containers with users of their own look into it
		return 0, err
	}
	before := seeMachine(dir)
	code, err := runTests(dir)
	if err != nil {
		return 0, err
	}
	var after machine
	leaks := settle(func() []string {
		reap(syscall.WNOHANG, 0)
		after = seeMachine(dir)
		return before.leaks(after)
	})
	if report("the machine", leaks) {
		after.remove(before)
		if code == 0 {
			code = 1
		}
	}
	if len(mountsBelow(dir)) == 0 {
		os.RemoveAll(dir)
	}
	return code, nil
}

// runTests starts this binary again for the tests, passes signals on and reaps
// all children until it ended.
func runTests(dir string) (int, error) {
	exe, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(exe, os.Args[1:]...)
	cmd.Env = append(os.Environ(), envDir+"="+dir, "TMPDIR="+dir)
	if os.Getenv("GORACE") == "" {
		cmd.Env = append(cmd.Env, "GORACE=atexit_sleep_ms=0") // children of tests are many, and would sleep for a second each
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// PDEATHSIG follows the thread that made the child: this is the main one.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	go func() {
		for s := range signals {
			cmd.Process.Signal(s)
		}
	}()
	status := reap(0, cmd.Process.Pid)
	if status.Signaled() {
		fmt.Fprintln(os.Stderr, "testenv: the tests were ended by", status.Signal())
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}

// reap waits for children: until the one named has ended, or with WNOHANG for
// those that have ended already.
func reap(options, until int) syscall.WaitStatus {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, options, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid == 0 || pid == until {
			return status
		}
	}
}

// settle asks until there are no leaks or the grace is over.
func settle(look func() []string) []string {
	for end := time.Now().Add(grace); ; time.Sleep(20 * time.Millisecond) {
		leaks := look()
		if len(leaks) == 0 || time.Now().After(end) {
			return leaks
		}
	}
}

func report(where string, leaks []string) bool {
	if len(leaks) == 0 {
		return false
	}
	fmt.Fprintf(os.Stderr, "testenv: FAIL: tests left on %s:\n", where)
	for _, l := range leaks {
		fmt.Fprintln(os.Stderr, "  "+l)
	}
	return true
}
