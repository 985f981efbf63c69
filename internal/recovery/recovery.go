// Package recovery mends what killed processes and lost machines leave: it
// makes a container's record true again, without starting anything.
//
// Nothing here needs a helper process. What a dead shim leaves is a control
// group, a socket, a state directory and files of the store; its mounts and
// descriptors went with it.
package recovery

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/amphora-go/amphora/internal/cgroup"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/networks"
	"github.com/amphora-go/amphora/internal/proc"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/step"
)

// killLimit is how long the processes of a lost container may take to die.
const killLimit = 10 * time.Second

// Judge reads a container and mends it first if it needs that.
func Judge(ctx context.Context, root *record.Root, id string) (*record.Snapshot, error) {
	for {
		if err := root.Settle(ctx, id); err != nil {
			return nil, err
		}
		s, err := root.Judge(id)
		if err != nil || !s.Lost {
			return s, err
		}
		_, err = Container(ctx, root, id)
		if cannotWrite(err) {
			return unwritten(s, err), nil
		}
		if err != nil && !errors.Is(err, flock.ErrHeld) {
			return nil, err
		}
		// Held: somebody else is mending it, or has just started it.
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

func cannotWrite(err error) bool {
	for _, e := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EACCES} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// unwritten is what a lost container is, where that cannot be recorded.
func unwritten(s *record.Snapshot, err error) *record.Snapshot {
	s.Unwritten = err
	if s.Run == nil {
		return s
	}
	if s.Run.Seq > 0 {
		s.Status = record.Exited
		s.Exit = &record.Exit{Unknown: true, Code: 137, Started: s.Run.Started, Restarts: s.Run.Restarts, Boot: s.Run.Boot,
			Error: "nobody supervises the container any more; this could not be recorded: " + err.Error()}
	}
	s.Run, s.Starting = nil, false
	return s
}

// Outcome is what was done to one container.
type Outcome string

const (
	Sound   Outcome = ""        // nothing was wrong
	Mended  Outcome = "mended"  // it was recorded as running, and is not
	Removed Outcome = "removed" // it should have been removed, and now is
	Dropped Outcome = "dropped" // it was never made completely
)

// Container mends one container if nobody supervises it. flock.ErrHeld:
// somebody does.
func Container(ctx context.Context, root *record.Root, id string) (Outcome, error) {
	alive, err := root.TryAlive(id)
	if err != nil {
		return Sound, err
	}
	defer alive.Release()
	l, err := root.Lock(ctx, id)
	if err != nil {
		return Sound, err
	}
	defer l.Release()
	s, err := root.JudgeHeld(id)
	if err != nil || !s.Lost {
		return Sound, err
	}
	step.At("recover.locked")
	if err := Clear(ctx, root, s.Container); err != nil {
		return Sound, err
	}
	step.At("recover.cleared")
	done := Sound // it had ended: only its rests were there
	if s.Run != nil {
		done = Mended
		if err := ended(ctx, root, s); err != nil {
			return Sound, err
		}
	}
	step.At("recover.recorded")
	if err := root.EndRun(id); err != nil {
		return Sound, err
	}
	if s.AutoRemove || s.Removing {
		return Removed, finish(ctx, root, s.Container)
	}
	return done, nil
}

// Clear kills the container's processes and removes what the kernel, State and
// killed writers hold of it. Its lock and alive are held.
func Clear(ctx context.Context, root *record.Root, c *record.Container) error {
	if c.Cgroup != "" {
		if err := cgroup.Kill(c.Cgroup, killLimit); err != nil {
			return err
		}
		if err := cgroup.Remove(c.Cgroup); err != nil {
			return err
		}
	}
	if c.Wired() {
		if err := networks.Open(root).Forget(ctx, c.ID); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(filepath.Join(root.RuntimeDir(), c.ID)); err != nil {
		return fault.Opaque(err)
	}
	if err := os.Remove(root.Socket(c.ID)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault.Opaque(err)
	}
	return sweepFiles(root, c.ID)
}

// ended records the end of a run that nobody saw.
func ended(ctx context.Context, root *record.Root, s *record.Snapshot) error {
	boot, err := proc.BootID()
	if err != nil {
		return fault.Opaque(err)
	}
	why := "the container's supervisor was killed"
	if s.Run.Boot != boot {
		why = "the machine was restarted while the container ran"
		if err := dropVolatile(root, s.ID); err != nil {
			return err
		}
	}
	if s.Run.Status == record.Restarting && s.Exit != nil { // the last end was seen, the next run did not begin
		exit := *s.Exit
		exit.Again, exit.Error, exit.Boot = true, why, s.Run.Boot
		return root.Failed(s.Container, &exit)
	}
	exit := &record.Exit{Unknown: true, Error: why, Boot: s.Run.Boot, Finished: time.Now().UTC(), Started: s.Run.Started, Restarts: s.Run.Restarts}
	if s.Run.Seq == 0 {
		exit.Code = 125
		exit.Error += " before it ran"
		if s.Run.Boot != boot {
			exit.Error = "the machine was restarted before the container ran"
		}
		return root.Failed(s.Container, exit)
	}
	exit.Code = 137 // it was killed, by us at the latest
	return root.Exited(ctx, s.Container, exit, map[string]string{"exitCode": "137", "unknown": "true"})
}

// dropVolatile empties a writable layer that was not synced to disk: after a
// loss of power it may be anything.
func dropVolatile(root *record.Root, id string) error {
	cfg, err := root.LoadConfig(id)
	if err != nil {
		return err
	}
	if !cfg.Volatile {
		return nil
	}
	return fault.Opaque(errors.Join(os.RemoveAll(root.Path(id, "upper")), os.RemoveAll(root.Path(id, "work"))))
}
