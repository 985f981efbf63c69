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
	"time"
)

func TestLife(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	c := b.create(t, Spec{Name: "life", Labels: map[string]string{"a": "b"}}, "trap", "-x", "3")
	if info := inspect(t, c); info.Log == "" || info.Spec.Name != "life" || info.Status != Created || info.Name != "life" || info.Labels["a"] != "b" || info.Exit != nil {
		t.Errorf("created: %+v", info)
	}
	if exit, err := c.Wait(ctx, NotRunning); err != nil || *exit != (Exit{}) {
		t.Errorf("wait for a container that never ran: %+v, %v", exit, err)
	}
	for i := range 2 {
		if err := c.Start(ctx); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is ready", func() bool { return strings.Count(logText(t, c), "ready") == i+1 })
		info := inspect(t, c)
		if info.Status != Running || info.Pid == 0 || info.Started.IsZero() {
			t.Errorf("started: %+v", info)
		}
		if pids, err := c.Pids(ctx); err != nil || len(pids) != 1 || pids[0] != info.Pid {
			t.Errorf("pids %v, %v; want %d alone", pids, err, info.Pid)
		}
		is(t, c.Start(ctx), ErrRunning)
		is(t, c.Remove(ctx, nil), ErrRunning)
		is(t, c.Resume(ctx), ErrRunning)

		if err := c.Pause(ctx); err != nil {
			t.Fatal(err)
		}
		if got := inspect(t, c).Status; got != Paused {
			t.Errorf("paused: %s", got)
		}
		is(t, c.Pause(ctx), ErrPaused)
		is(t, c.Start(ctx), ErrPaused)
		is(t, c.Command(ctx, "true").Run(), ErrPaused)
		if err := c.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		if err := c.Stop(ctx, nil); err != nil {
			t.Fatal(err)
		}
		info = inspect(t, c)
		if info.Status != Exited || info.Exit == nil || info.Exit.Code != 3 || info.Pid != 0 || info.Exit.Started.IsZero() || info.Exit.Finished.IsZero() {
			t.Errorf("stopped: %+v, %+v", info, info.Exit)
		}
		if err := c.Stop(ctx, nil); err != nil {
			t.Errorf("stop of a stopped one: %v", err)
		}
		is(t, c.Pause(ctx), ErrNotRunning)
		is(t, c.Signal(ctx, "TERM"), ErrNotRunning)
		is(t, c.Command(ctx, "true").Run(), ErrNotRunning)
		is(t, c.Attach(ctx, &IO{}), ErrNotRunning)
	}
	if err := c.Restart(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Restart(ctx, nil); err != nil { // also of one that runs
		t.Fatal(err)
	}
	if err := c.Remove(ctx, &RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	gone(t, c)
	if err := c.Remove(ctx, &RemoveOptions{Force: true}); err != nil {
		t.Errorf("second forced removal: %v", err)
	}
}

// gone checks every call on a container that is not there any more.
func gone(t *testing.T, c *Container) {
	t.Helper()
	ctx := t.Context()
	_, inspected := c.Inspect(ctx)
	_, waited := c.Wait(ctx, NotRunning)
	_, fsys := c.FS(ctx)
	_, pids := c.Pids(ctx)
	var logs error
	for _, err := range c.Logs(ctx, nil) {
		logs = err
	}
	for what, err := range map[string]error{
		"start": c.Start(ctx), "stop": c.Signal(ctx, "TERM"), "pause": c.Pause(ctx), "rename": c.Rename(ctx, "other"), "remove": c.Remove(ctx, nil),
		"exec": c.Command(ctx, "true").Run(), "attach": c.Attach(ctx, nil), "own": c.Own(ctx),
		"inspect": inspected, "wait": waited, "fs": fsys, "pids": pids, "logs": logs,
	} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of a removed container: %v", what, err)
		}
	}
}

func TestStop(t *testing.T) {
	b := newBench(t)
	for _, tt := range []struct {
		name string
		spec Stop
		opts *StopOptions
		arg  []string
		code int
	}{
		{"the default is TERM", Stop{}, nil, []string{"trap", "-x", "3"}, 3},
		{"grace ends with KILL", Stop{Timeout: 50 * time.Millisecond}, nil, []string{"trap"}, 137},
		{"options over the container's", Stop{Timeout: -1}, &StopOptions{Timeout: time.Millisecond}, []string{"trap"}, 137},
		{"another signal", Stop{Signal: "SIGQUIT"}, nil, []string{"trap"}, 2}, // what Go does at it
		{"signal of the options", Stop{Signal: "SIGINT"}, &StopOptions{Signal: "KILL"}, []string{"trap"}, 137},
		{"never kill", Stop{Timeout: -1}, nil, []string{"trap", "-x", "9"}, 9},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out := new(collector)
			c := b.create(t, Spec{Stop: tt.spec}, tt.arg...)
			a, err := c.StartAttached(t.Context(), &IO{Stdout: out})
			if err != nil {
				t.Fatal(err)
			}
			out.await(t, "ready")
			if err := c.Stop(t.Context(), tt.opts); err != nil {
				t.Fatal(err)
			}
			exit, err := a.Wait(t.Context())
			if err != nil || exit.Code != tt.code {
				t.Errorf("exit %+v, %v; want %d", exit, err, tt.code)
			}
			if again := wait(t, c); again.Code != tt.code {
				t.Errorf("wait after: %+v", again)
			}
		})
	}
}

// A cancelled Stop stays in force: the supervisor keeps the time.
func TestStopGoesOnAfterCancel(t *testing.T) {
	b := newBench(t)
	out := new(collector)
	c := b.create(t, Spec{}, "trap")
	if _, err := c.StartAttached(t.Context(), &IO{Stdout: out}); err != nil {
		t.Fatal(err)
	}
	out.await(t, "ready")
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- c.Stop(ctx, &StopOptions{Timeout: 500 * time.Millisecond}) }()
	out.await(t, "got 15")
	cancel()
	is(t, <-stopped, context.Canceled)
	if exit := wait(t, c); exit.Code != 137 {
		t.Errorf("exit %+v", exit)
	}
}

func TestSignalReachesTheProcess(t *testing.T) {
	b := newBench(t)
	out := new(collector)
	c := b.create(t, Spec{}, "trap")
	a, err := c.StartAttached(t.Context(), &IO{Stdout: out})
	if err != nil {
		t.Fatal(err)
	}
	out.await(t, "ready")
	for _, s := range []string{"SIGHUP", "USR1", "12"} {
		if err := c.Signal(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	out.await(t, "got 1 ")
	out.await(t, "got 10 ")
	out.await(t, "got 12 ")
	is(t, c.Signal(t.Context(), "NOSUCH"), fs.ErrInvalid)
	if err := c.Signal(t.Context(), "KILL"); err != nil {
		t.Fatal(err)
	}
	if exit, err := a.Wait(t.Context()); err != nil || exit.Code != 137 || exit.Signal != 9 || exit.OOMKilled {
		t.Errorf("exit %+v, %v", exit, err)
	}
}

func TestFailedStarts(t *testing.T) {
	b := newBench(t)
	for _, tt := range []struct {
		name string
		spec Spec
		arg  string
		kind error
		code int
		text string
	}{
		{"no such command", Spec{}, "nosuch", exec.ErrNotFound, 127, "nosuch"},
		{"no such path", Spec{}, "/bin/nosuch", exec.ErrNotFound, 127, "nosuch"},
		{"not executable", Spec{}, "/etc/passwd", fs.ErrPermission, 126, "passwd"},
		{"a directory", Spec{}, "/etc", fs.ErrPermission, 126, "/etc"},
		{"unknown user", Spec{Process: Process{User: "nosuch"}}, "true", fs.ErrInvalid, 125, "nosuch"},
		{"unknown group", Spec{Process: Process{User: "alice:nosuch"}}, "true", fs.ErrInvalid, 125, "nosuch"},
		{"unknown further group", Spec{Process: Process{Groups: []string{"nosuch"}}}, "true", fs.ErrInvalid, 125, "nosuch"},
	} {
		for _, owned := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", tt.name, owned), func(t *testing.T) {
				t.Parallel()
				var err error
				if owned {
					err = b.command(t, tt.spec, tt.arg).Run()
				} else {
					c := b.create(t, tt.spec, tt.arg)
					err = c.Start(t.Context())
					info := inspect(t, c)
					if info.Status != Created || info.Exit == nil || info.Exit.Code != tt.code || !strings.Contains(info.Exit.Error, tt.text) {
						t.Errorf("after the failed start: %s %+v", info.Status, info.Exit)
					}
					if exit := wait(t, c); exit.Code != tt.code {
						t.Errorf("wait: %+v", exit)
					}
				}
				is(t, err, tt.kind)
				says(t, err, tt.text)
				if Code(err) != tt.code {
					t.Errorf("code %d, want %d (%v)", Code(err), tt.code, err)
				}
				if errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%v looks as if the container did not exist", err)
				}
			})
		}
	}
}

func TestConcurrentStarts(t *testing.T) {
	b := newBench(t)
	c := b.create(t, Spec{}, "pause")
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = c.Start(t.Context()) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, ErrRunning) {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d starts succeeded", won)
	}
}

// A removal by force that meets a start must not wait for the container's end.
func TestRemoveMeetsStart(t *testing.T) {
	b := newBench(t)
	for range 5 {
		c := b.create(t, Spec{}, "pause")
		started := make(chan error, 1)
		go func() { started <- c.Start(t.Context()) }()
		if err := c.Remove(t.Context(), &RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
		<-started
		if _, err := c.Inspect(t.Context()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after the removal: %v", err)
		}
	}
}
