package container

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/journal"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/recovery"
	"github.com/amphora-go/amphora/internal/shim"
)

// StopOptions replace the container's own settings.
type StopOptions struct {
	Signal  string        // empty: the container's
	Timeout time.Duration // 0: the container's; negative: never kill
}

// Stop asks the container to end, kills it after the grace time, and returns
// when it has ended. A container that does not run is left alone. The request
// stays in force when ctx ends: the supervisor keeps the time.
func (c *Container) Stop(ctx context.Context, opts *StopOptions) error {
	if opts == nil {
		opts = &StopOptions{}
	}
	sig := 0
	if opts.Signal != "" {
		var err error
		if sig, err = ParseSignal(opts.Signal); err != nil {
			return c.fail("stop", err)
		}
	}
	err := c.ask(ctx, func(client *shim.Client) error {
		_, err := client.Stop(ctx, sig, opts.Timeout)
		return err
	})
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrNotRunning) {
		_, err = recovery.Judge(ctx, c.m.root, c.id)
		if errors.Is(err, os.ErrNotExist) {
			err = nil // it was removed at its end
		}
	}
	return c.failed("stop", err)
}

// failed is fail that keeps nil.
func (c *Container) failed(op string, err error) error {
	if err == nil {
		return nil
	}
	return c.fail(op, err)
}

// ask runs one request on the container's supervisor.
func (c *Container) ask(ctx context.Context, f func(*shim.Client) error) error {
	client, err := c.control(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	return f(client)
}

// Restart is Stop and Start.
func (c *Container) Restart(ctx context.Context, opts *StopOptions) error {
	if err := c.Stop(ctx, opts); err != nil {
		return err
	}
	return c.Start(ctx)
}

// Signal sends a signal, such as "SIGHUP", to the container's first process.
// SIGKILL ends all of them.
func (c *Container) Signal(ctx context.Context, signal string) error {
	sig, err := ParseSignal(signal)
	if err != nil {
		return c.fail("signal", err)
	}
	return c.failed("signal", c.ask(ctx, func(client *shim.Client) error { return client.Signal(ctx, sig) }))
}

// Pause freezes the container's processes.
func (c *Container) Pause(ctx context.Context) error {
	return c.failed("pause", c.ask(ctx, func(client *shim.Client) error { return client.Pause(ctx) }))
}

// Resume lets them go on.
func (c *Container) Resume(ctx context.Context) error {
	return c.failed("resume", c.ask(ctx, func(client *shim.Client) error { return client.Resume(ctx) }))
}

// Resize sets the size of the container's terminal, in cells. A container
// that has ended, or has no terminal, is left alone.
func (c *Container) Resize(ctx context.Context, width, height uint16) error {
	err := c.ask(ctx, func(client *shim.Client) error { return client.Resize(ctx, width, height) })
	if errors.Is(err, ErrNotRunning) {
		return nil
	}
	return c.failed("resize", err)
}

// Pids lists the container's processes by the host's numbers.
func (c *Container) Pids(ctx context.Context) (pids []int, err error) {
	err = c.ask(ctx, func(client *shim.Client) (e error) { pids, e = client.Pids(ctx); return e })
	return pids, c.failed("pids", err)
}

// Until is what Wait waits for.
type Until string

const (
	NotRunning Until = "not-running" // now or later; the default
	NextExit   Until = "next-exit"   // the next end, also one after which it is restarted
	Gone       Until = "removed"     // until it is removed
)

// Wait waits for the condition and returns how the container ended. For one
// that never ran, NotRunning returns an Exit of zeros at once. When ctx ends
// nothing but the call does.
func (c *Container) Wait(ctx context.Context, until Until) (*Exit, error) {
	var exit *record.Exit
	var err error
	switch until {
	case "", NotRunning:
		exit, err = c.waitStopped(ctx)
	case NextExit:
		exit, err = c.waitNext(ctx)
	case Gone:
		exit, err = c.waitGone(ctx)
	default:
		err = fault.Invalid("unknown condition %q: use %s, %s or %s", until, NotRunning, NextExit, Gone)
	}
	if err != nil {
		return nil, c.fail("wait", err)
	}
	if exit == nil {
		exit = new(record.Exit)
	}
	return newExit(exit), nil
}

func (c *Container) waitStopped(ctx context.Context) (*record.Exit, error) {
	for {
		var exit *record.Exit
		err := c.ask(ctx, func(client *shim.Client) (e error) { exit, e = client.Wait(ctx, "exit"); return e })
		if err == nil {
			return exit, nil
		}
		if !errors.Is(err, ErrNotRunning) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, err
		}
		s, err := recovery.Judge(ctx, c.m.root, c.id)
		if err != nil {
			return nil, err
		}
		if s.Run == nil && !s.Starting {
			return s.Exit, nil
		}
		// It is being started, or has just ended: look again.
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// waitNext follows the event log: it sees every end, however short the pause
// before the next run.
func (c *Container) waitNext(ctx context.Context) (*record.Exit, error) {
	last, err := c.m.root.Log.Last(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := c.m.root.Load(c.id); err != nil {
		return nil, err
	}
	ctx, done := context.WithCancel(ctx)
	defer done()
	go c.watchSupervisor(ctx)
	for ev, err := range c.m.root.Log.Read(ctx, &journal.ReadOptions{Since: last, Follow: true}) {
		if err != nil {
			return nil, err
		}
		if ev.ID != c.id {
			continue
		}
		switch ev.Action {
		case "die":
			if exit, err := c.m.root.LoadExit(c.id); err == nil && exit != nil && exit.Seq == ev.Seq {
				return exit, nil
			}
			code, _ := strconv.Atoi(ev.Attributes["exitCode"])
			return &record.Exit{Code: code, Finished: ev.Time}, nil
		case "destroy":
			return nil, fault.NotExist("the container was removed")
		}
	}
	return nil, ctx.Err()
}

// watchSupervisor finds out when a supervisor dies without a word: somebody
// must record the end that others wait for.
func (c *Container) watchSupervisor(ctx context.Context) {
	client, err := shim.Dial(ctx, c.m.root, c.id)
	if err != nil {
		return
	}
	defer client.Close()
	if _, err := client.Wait(ctx, "removed"); errors.Is(err, io.ErrUnexpectedEOF) {
		recovery.Judge(ctx, c.m.root, c.id)
	}
}

func (c *Container) waitGone(ctx context.Context) (*record.Exit, error) {
	var last *record.Exit
	for {
		exit, err := c.waitStopped(ctx)
		if errors.Is(err, os.ErrNotExist) {
			return last, nil
		}
		if err != nil {
			return nil, err
		}
		if exit != nil {
			last = exit
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Rename gives the container another name.
func (c *Container) Rename(ctx context.Context, name string) error {
	return c.failed("rename", c.locked(ctx, func(rec *record.Container) error {
		old := rec.Name
		if err := c.m.root.Rename(ctx, rec, name); err != nil || !rec.Wired() {
			return err
		}
		return c.m.networks.Rename(ctx, c.id, old, name)
	}))
}

// RemoveOptions say how far a removal goes.
type RemoveOptions struct {
	Force   bool // kill it first if it runs
	Volumes bool // remove its anonymous volumes too
}

// Remove removes the container and its writable layer. One that runs is
// ErrRunning unless Force is set.
func (c *Container) Remove(ctx context.Context, opts *RemoveOptions) error {
	if opts == nil {
		opts = &RemoveOptions{}
	}
	err := c.remove(ctx, opts)
	if opts.Force && errors.Is(err, os.ErrNotExist) && !c.exists() {
		return nil // somebody else, or the container's own end, was faster
	}
	return c.failed("remove", err)
}

// rest takes the alive lock once nothing runs, by force if need be. The lock
// is tried and not waited for: it may be held by one who is just starting the
// container.
func (c *Container) rest(ctx context.Context, force bool) (*flock.Lock, error) {
	for {
		s, err := recovery.Judge(ctx, c.m.root, c.id)
		switch {
		case err != nil && (!force || errors.Is(err, os.ErrNotExist)):
			return nil, err
		case err == nil && (s.Run != nil || s.Starting):
			if !force {
				return nil, fault.Kind(ErrRunning, "the container is %s: stop it first, or remove it by force", s.Status)
			}
			err := c.ask(ctx, func(client *shim.Client) error { return client.Signal(ctx, 9) })
			if err != nil && !errors.Is(err, ErrNotRunning) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return nil, err
			}
		}
		alive, err := c.m.root.TryAlive(c.id)
		if !errors.Is(err, flock.ErrHeld) {
			return alive, err
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// pause is the time between two looks at a lock of somebody who is about to
// release it, or to say on disk why not.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(2 * time.Millisecond):
		return nil
	}
}

func (c *Container) remove(ctx context.Context, opts *RemoveOptions) error {
	alive, err := c.rest(ctx, opts.Force)
	if err != nil {
		return err
	}
	defer alive.Release()
	return c.locked(ctx, func(rec *record.Container) error {
		if s, err := c.m.root.JudgeHeld(c.id); err == nil && s.Lost {
			if err := recovery.Clear(context.WithoutCancel(ctx), c.m.root, rec); err != nil {
				return err
			}
		}
		empty, err := recovery.Remove(ctx, c.m.root, rec, opts.Volumes || rec.AutoRemove)
		if err != nil {
			return err
		}
		return empty()
	})
}

// locked does something with the container's record while nobody else changes
// it.
func (c *Container) locked(ctx context.Context, f func(*record.Container) error) error {
	l, err := c.m.root.Lock(ctx, c.id)
	if err != nil {
		return err
	}
	defer l.Release()
	rec, err := c.m.root.Load(c.id)
	if err != nil {
		return err
	}
	return f(rec)
}
