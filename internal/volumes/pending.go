package volumes

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/amphora-go/amphora/internal/fault"
)

// An anonymous volume is made before the container that it is for. Until that
// container's record is written the volume has a file "pending": one whose
// creator was killed can be told from one that was kept when its container was
// removed.

func (s *Store) pend(name string) error {
	f, err := os.OpenFile(s.path(name, "pending"), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return trouble("make the volume", err)
	}
	return trouble("make the volume", f.Close())
}

// Settle says that a volume has, or had, a container: from here on only
// removal takes it away.
func (s *Store) Settle(name string) error {
	if err := os.Remove(s.path(name, "pending")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return trouble("settle the volume", err)
	}
	return nil
}

// Sweep removes the anonymous volumes whose creators were killed before there
// was a container.
func (s *Store) Sweep(ctx context.Context) error {
	entries, err := os.ReadDir(s.dir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return trouble("read the directory of volumes", err)
	}
	var errs []error
	for _, e := range entries {
		name := e.Name()
		if _, err := os.Lstat(s.path(name, "pending")); err != nil || !valid(name) {
			continue
		}
		v, err := s.Get(ctx, name) // mends what is no volume
		if err != nil {
			continue
		}
		if err := s.sweep(ctx, v); err != nil {
			errs = append(errs, fault.New("recover volume", name, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Store) sweep(ctx context.Context, v *Volume) error {
	h, err := s.tryHold(ctx, v)
	if err != nil || h == nil {
		return err // its creator lives
	}
	defer h.release()
	users, err := s.Users()
	if err != nil {
		return err
	}
	if len(users[v.Name]) > 0 {
		return s.Settle(v.Name)
	}
	return s.destroy(ctx, h.v)
}
