package volumes

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/step"
)

// Remove deletes a volume and its data. A volume that a container uses, or is
// being created with, is fault.ErrInUse; one that is not there fs.ErrNotExist.
// What a volume was bound to by its options is not touched.
func (s *Store) Remove(ctx context.Context, name string) error {
	return s.RemoveOf(ctx, name, "")
}

// RemoveOf is Remove as a part of the removal of a container, whose own use
// does not count. Removing the volumes before the container's record makes
// that a killed removal loses none.
func (s *Store) RemoveOf(ctx context.Context, name, container string) error {
	h, err := s.hold(ctx, name)
	if err != nil {
		return err
	}
	defer h.release()
	users, err := s.Users()
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(users[name], func(u User) bool { return u.ID == container })
	if len(others) > 0 {
		return inUse(others)
	}
	if err := s.destroy(ctx, h.v); err != nil {
		return err
	}
	h.release()
	return s.root.EmptyTrash()
}

// held is a volume with both its locks, ready to be removed.
type held struct {
	v           *Volume
	lock, lease *flock.Lock
}

func (h *held) release() {
	h.lease.Release()
	h.lock.Release()
}

// hold takes both locks, waiting for the first.
func (s *Store) hold(ctx context.Context, name string) (*held, error) {
	if !valid(name) {
		return nil, absent()
	}
	l, err := s.lock(ctx, name, false)
	if err != nil {
		return nil, err
	}
	h, err := s.holdLocked(name, l)
	if err != nil {
		l.Release()
	}
	return h, err
}

func (s *Store) holdLocked(name string, l *flock.Lock) (*held, error) {
	v, err := s.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		s.dropHalf(name)
	}
	if errors.Is(err, errDamaged) {
		v, err = s.damaged(name, err), nil
	}
	if err != nil {
		return nil, err
	}
	lease, err := flock.Try(s.path(name, "lease"), flock.Exclusive)
	if errors.Is(err, flock.ErrHeld) {
		return nil, fault.Kind(fault.ErrInUse, "a container is being created with it: remove that container first")
	}
	if err != nil {
		return nil, trouble("lock the volume", err)
	}
	return &held{v, l, lease}, nil
}

// destroy removes a volume whose locks are held and that nobody uses. The data
// lies in the trash when it returns.
func (s *Store) destroy(ctx context.Context, v *Volume) error {
	if err := s.mark(v.Name); err != nil {
		return err
	}
	step.At("volume.remove.marked")
	if err := s.discard(ctx, v); err != nil {
		if rm := os.Remove(s.path(v.Name, "removing")); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
			err = errors.Join(err, trouble("unmark the volume", rm))
		}
		return err
	}
	return nil
}

// PruneOptions choose what Prune removes.
type PruneOptions struct {
	Named  bool               // also volumes that were given a name, save damaged ones: their data may be wanted
	Filter func(*Volume) bool // further condition; nil: none
}

// Pruned is what Prune removed, by name, and the bytes that it freed.
type Pruned struct {
	Names []string
	Bytes int64
}

// pruneBatch bounds the locks held at once (two descriptors each), so that the
// containers are read once for many volumes.
const pruneBatch = 64

// Prune removes the volumes that no container uses. What becomes used
// meanwhile, or is worked on by somebody else, stays. When it fails in
// between, what was removed is returned with the error.
func (s *Store) Prune(ctx context.Context, opts *PruneOptions) (*Pruned, error) {
	if opts == nil {
		opts = &PruneOptions{}
	}
	report := &Pruned{}
	all, err := s.List(ctx)
	if err != nil {
		return report, err
	}
	users, err := s.Users()
	if err != nil {
		return report, err
	}
	all = slices.DeleteFunc(all, func(v *Volume) bool {
		return len(users[v.Name]) > 0 || !v.Anonymous && (!opts.Named || v.Problem != "") || opts.Filter != nil && !opts.Filter(v)
	})
	for batch := range slices.Chunk(all, pruneBatch) {
		if err = s.pruneBatch(ctx, batch, report); err != nil {
			break
		}
	}
	return report, errors.Join(err, s.root.EmptyTrash())
}

func (s *Store) pruneBatch(ctx context.Context, batch []*Volume, report *Pruned) error {
	var holds []*held
	defer func() {
		for _, h := range holds {
			h.release()
		}
	}()
	for _, v := range batch {
		h, err := s.tryHold(ctx, v)
		if err != nil {
			return err
		}
		if h != nil {
			holds = append(holds, h)
		}
	}
	users, err := s.Users()
	if err != nil {
		return err
	}
	for _, h := range holds {
		if len(users[h.v.Name]) > 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		size := s.size(ctx, h.v)
		if err := s.destroy(ctx, h.v); err != nil {
			return err
		}
		report.Names = append(report.Names, h.v.Name)
		report.Bytes += size
	}
	return nil
}

// tryHold takes both locks if they are free and the volume is the one that was
// listed.
func (s *Store) tryHold(ctx context.Context, v *Volume) (*held, error) {
	l, err := flock.Try(s.path(v.Name, "lock"), flock.Exclusive)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, flock.ErrHeld) {
		return nil, nil
	}
	if err != nil {
		return nil, trouble("lock the volume", err)
	}
	var h *held
	gone, err := s.settle(ctx, v.Name)
	if err == nil && !gone {
		h, err = s.holdLocked(v.Name, l)
	}
	if err == nil && h != nil && h.v.Seq == v.Seq {
		return h, nil
	}
	if h != nil {
		h.lease.Release()
	}
	l.Release()
	if errors.Is(err, fault.ErrInUse) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, errors.ErrUnsupported) {
		return nil, nil
	}
	return nil, err
}
