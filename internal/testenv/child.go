package testenv

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/amphora-go/amphora/internal/step"
)

// children are the functions registered with Child. It is written before
// tests run only.
var children = map[string]func(args []string) int{}

// Child registers what a child process of a test runs. Call it from an init
// function or from TestMain before Main. The result is the exit code.
func Child(name string, f func(args []string) int) {
	if children[name] != nil {
		panic("testenv: two children are called " + name)
	}
	children[name] = f
}

func runChild(name, plan string) int {
	f := children[name]
	if f == nil {
		fmt.Fprintf(os.Stderr, "testenv: no child %q is registered\n", name)
		return 125
	}
	if plan != "" {
		var p step.Plan
		if err := json.Unmarshal([]byte(plan), &p); err != nil {
			fmt.Fprintln(os.Stderr, "testenv: step plan:", err)
			return 125
		}
		step.Arm(p)
	}
	return f(os.Args[2:])
}

// ChildCommand prepares a process that runs the registered function with the
// step armed; an empty plan arms none. It is not started. The caller must Wait
// for it, as for any command.
func ChildCommand(t testing.TB, name string, plan step.Plan, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, append([]string{"testenv-child"}, args...)...)
	cmd.Env = append(os.Environ(), envDir+"="+runDir, envChild+"="+name)
	if plan != (step.Plan{}) {
		data, err := json.Marshal(plan)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Env = append(cmd.Env, envStep+"="+string(data))
	}
	return cmd
}

// Result is how a child ended.
type Result struct {
	Code           int // exit code; -1 after a signal
	Killed         bool
	Stdout, Stderr string
}

// RunChild runs a registered function in a process of its own and waits for
// it. A plan that is reached ends the child as SIGKILL would (Killed); Code 0
// means that the point was never passed so often.
func RunChild(t testing.TB, name string, plan step.Plan, args ...string) Result {
	t.Helper()
	cmd := ChildCommand(t, name, plan, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return Result{
		Code: cmd.ProcessState.ExitCode(), Killed: killed(cmd.ProcessState),
		Stdout: stdout.String(), Stderr: stderr.String(),
	}
}

// Points runs f and returns the names of the steps it passed, in order, each
// as often as it was passed: the list that a kill matrix goes through. Tests
// that use it must not run in parallel with others that pass steps.
func Points(f func()) []string {
	var names []string
	seen := make(chan string)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := range seen {
			names = append(names, n)
		}
	}()
	step.Observe(func(n string) { seen <- n })
	f()
	step.Disarm()
	close(seen)
	<-done
	return names
}
