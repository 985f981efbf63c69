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
	"github.com/amphora-go/amphora/internal/proc"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/volumes"
	"github.com/hashicorp/go-multierror"
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
	if err := Clear(root, s.Container); err != nil {
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

// Clear kills the container's processes and removes what the kernel and State
// hold of it. The alive lock is held.
func Clear(root *record.Root, c *record.Container) error {
	if c.Cgroup != "" {
		if err := cgroup.Kill(c.Cgroup, killLimit); err != nil {
			return err
		}
		if err := cgroup.Remove(c.Cgroup); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(filepath.Join(root.RuntimeDir(), c.ID)); err != nil {
		return fault.Opaque(err)
	}
	if err := os.Remove(root.Socket(c.ID)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault.Opaque(err)
	}
	return nil
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

// Remove takes a container out of the store, with its anonymous volumes if
// wanted. Its lock and alive are held. A kill on the way leaves a container
// that says it is being removed, so that the next reader finishes it. The
// returned function deletes the files.
func Remove(ctx context.Context, root *record.Root, c *record.Container, withVolumes bool) (empty func() error, err error) {
	return remove(ctx, root, c, withVolumes, c.Removing)
}

// finish does what is left of a removal.
func finish(ctx context.Context, root *record.Root, c *record.Container) error {
	empty, err := remove(ctx, root, c, c.AutoRemove || c.WithVolumes, true)
	if err != nil {
		return err
	}
	return empty()
}

func remove(ctx context.Context, root *record.Root, c *record.Container, withVolumes, resumed bool) (empty func() error, err error) {
	if err := root.MarkRemoving(c, withVolumes); err != nil {
		return nil, err
	}
	for _, v := range c.Volumes {
		if !v.Anonymous {
			continue
		}
		if err := removeVolume(ctx, volumes.Open(root), v.Name, c.ID, withVolumes); err != nil {
			return nil, err
		}
	}
	step.At("remove.volumes")
	if resumed {
		return root.FinishRemoval(ctx, c)
	}
	return root.Remove(ctx, c)
}

// removeVolume removes an anonymous volume, or leaves it for good.
func removeVolume(ctx context.Context, s *volumes.Store, name, id string, remove bool) error {
	if !remove {
		return s.Settle(name)
	}
	err := s.RemoveOf(ctx, name, id)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, fault.ErrInUse) {
		return nil // gone before, or another container has it too
	}
	return err
}

// Report is what All found and did.
type Report struct {
	Mended, Removed, Dropped []string // container ids
}

// All judges every record, mends it, and sweeps away what belongs to no
// container. It goes on after a failure.
func All(ctx context.Context, root *record.Root) (*Report, error) {
	ids, err := root.IDs()
	if err != nil {
		return nil, err
	}
	r := new(Report)
	var errs *multierror.Error
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		done, err := one(ctx, root, id)
		switch {
		case errors.Is(err, flock.ErrHeld), errors.Is(err, os.ErrNotExist):
		case err != nil:
			errs = multierror.Append(errs, fault.New("recover container", record.Short(id), err))
		case done == Mended:
			r.Mended = append(r.Mended, id)
		case done == Removed:
			r.Removed = append(r.Removed, id)
		case done == Dropped:
			r.Dropped = append(r.Dropped, id)
		}
	}
	errs = multierror.Append(errs, root.SweepNames(ctx), sweepSockets(root), volumes.Open(root).Sweep(ctx), root.EmptyTrash())
	return r, errs.ErrorOrNil()
}

func one(ctx context.Context, root *record.Root, id string) (Outcome, error) {
	if err := root.Settle(ctx, id); err != nil {
		return Sound, err
	}
	if _, err := os.Stat(root.Path(id, "record.json")); errors.Is(err, os.ErrNotExist) {
		dropped, err := root.DropHalfMade(ctx, id)
		if dropped {
			return Dropped, err
		}
		return Sound, err
	}
	s, err := root.Judge(id)
	if err != nil || !s.Lost {
		return Sound, err
	}
	return Container(ctx, root, id)
}

// sweepSockets removes the sockets that no supervisor listens on.
func sweepSockets(root *record.Root) error {
	entries, err := os.ReadDir(filepath.Join(root.State, "s"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.Opaque(err)
	}
	ids, err := root.IDs()
	if err != nil {
		return err
	}
	known := make(map[string]string, len(ids))
	for _, id := range ids {
		known[record.Short(id)] = id
	}
	var errs *multierror.Error
	for _, e := range entries {
		errs = multierror.Append(errs, sweepSocket(root, e.Name(), known[e.Name()]))
	}
	return errs.ErrorOrNil()
}

// sweepSocket removes one, unless its container, if there is one, is alive.
func sweepSocket(root *record.Root, name, id string) error {
	if id != "" {
		alive, err := root.TryAlive(id)
		if err != nil {
			return nil // supervised, or gone since
		}
		defer alive.Release()
	}
	if err := os.Remove(filepath.Join(root.State, "s", name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault.Opaque(err)
	}
	return nil
}
