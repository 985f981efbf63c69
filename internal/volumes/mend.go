package volumes

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"

	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/step"
)

// settle finishes what a killed process began with the volume whose lock is
// held. gone says that this was its removal: the lock went with it.
func (s *Store) settle(ctx context.Context, name string) (gone bool, err error) {
	seqOf := func(b []byte) (uint64, error) {
		var head struct{ Seq uint64 }
		err := json.Unmarshal(b, &head)
		return head.Seq, err
	}
	if err := s.root.Log.Settle(ctx, s.path(name, "record.json"), name, seqOf); err != nil {
		return false, err
	}
	if _, err := os.Lstat(s.path(name, "removing")); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, trouble("read the volume's directory", err)
	}
	return true, s.finishRemoval(ctx, name)
}

// finishRemoval logs the removal unless that was done, and takes the directory
// away.
func (s *Store) finishRemoval(ctx context.Context, name string) error {
	last, err := s.root.Log.LastOf(ctx, "volume", name)
	if err != nil {
		return err
	}
	if last.Action == "destroy" {
		_, err := s.root.Discard(s.path(name))
		return err
	}
	v := s.damaged(name, errDamaged)
	if b, err := os.ReadFile(s.path(name, "record.json")); err == nil {
		json.Unmarshal(b, v) // only for the event's attributes
		v.Name = name
	}
	return s.discard(ctx, v)
}

// mark decides the removal of a volume: from here on nobody sees it. The mark
// need not be on disk before the event is: file systems keep the order of
// their changes, and a removal that a power failure undoes loses nothing.
func (s *Store) mark(name string) error {
	f, err := os.OpenFile(s.path(name, "removing"), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return trouble("mark the volume for removal", err)
	}
	return trouble("mark the volume for removal", f.Close())
}

// discard logs the end of a marked volume and takes its directory away. What
// it held is deleted by Root.EmptyTrash.
func (s *Store) discard(ctx context.Context, v *Volume) error {
	_, err := s.root.Log.Commit(ctx, v.event("destroy"), func(uint64) error {
		_, err := s.root.Discard(s.path(v.Name))
		return err
	})
	if err != nil {
		return err
	}
	step.At("volume.remove.discarded")
	return nil
}

// mend looks after a directory that has no record to show. It reports whether
// there may be one now. A lock that is held means that somebody works on it.
func (s *Store) mend(ctx context.Context, name string) (bool, error) {
	l, err := flock.Try(s.path(name, "lock"), flock.Exclusive)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, flock.ErrHeld) {
		return false, nil
	}
	if err != nil {
		return false, trouble("lock the volume", err)
	}
	defer l.Release()
	gone, err := s.settle(ctx, name)
	if err != nil || gone {
		return false, err
	}
	if _, err := s.read(name); !errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	s.dropHalf(name)
	return false, nil
}

// dropHalf removes a volume that never was one: its lock is held and it has no
// record. Data, wherever it came from, is left alone. What fails here is found
// again by the next who looks.
func (s *Store) dropHalf(name string) {
	if _, err := os.Lstat(s.path(name, "record.json")); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err := os.Remove(s.Path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return
	}
	if empty, err := s.root.Discard(s.path(name)); err == nil {
		empty()
	}
}
