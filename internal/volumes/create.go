package volumes

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/step"
)

// Create makes a volume. A name that is taken is fs.ErrExist. On failure
// nothing stays.
func (s *Store) Create(ctx context.Context, spec *Spec) (*Volume, error) {
	c, err := spec.checked()
	if err != nil {
		return nil, err
	}
	l, err := s.lock(ctx, c.Name, true)
	if err != nil {
		return nil, err
	}
	defer l.Release()
	v, err := s.read(c.Name)
	switch {
	case err == nil:
		return nil, fault.Kind(fs.ErrExist, "there is a volume of that name, made %s: use it, or choose another name", v.Created.Format(time.DateTime))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return s.make(ctx, c)
}

// make makes the volume whose lock is held and that has no record. Data that
// lost its record is adopted: it is never deleted by a name's reuse.
func (s *Store) make(ctx context.Context, c *Spec) (_ *Volume, err error) {
	defer func() {
		if err != nil {
			s.dropHalf(c.Name)
		}
	}()
	step.At("volume.create.directory")
	v := &Volume{Version: version, Name: c.Name, Created: time.Now().UTC(), Driver: c.Driver,
		Labels: c.Labels, Options: c.Options, Anonymous: c.Anonymous, data: s.Path(c.Name)}
	if err := os.Mkdir(v.data, 0o755); err == nil {
		err = os.Chmod(v.data, 0o755) // whatever the umask
		if err != nil {
			return nil, trouble("make the volume's directory", err)
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return nil, trouble("make the volume's directory", err)
	}
	if !c.Volatile {
		if err := atomicfile.SyncDir(s.dir()); err != nil {
			return nil, trouble("write the directory of volumes", err)
		}
	}
	step.At("volume.create.data")
	_, err = s.root.Log.Update(ctx, v.event("create"), s.path(c.Name, "record.json"), !c.Volatile, func(seq uint64) ([]byte, error) {
		v.Seq = seq
		return json.Marshal(v)
	})
	if err != nil {
		return nil, err
	}
	step.At("volume.create.recorded")
	return v, nil
}

// Claim is a volume that cannot be removed while the claim is held.
type Claim struct {
	*Volume
	Created bool // by this call of Ensure

	s     *Store
	lease *flock.Lock
}

// Release gives the claim up. It is idempotent. Call it after the record of
// the container that uses the volume was written.
func (c *Claim) Release() error {
	var err error
	if c.Created && c.Anonymous {
		err = c.s.Settle(c.Name)
	}
	return errors.Join(err, c.lease.Release())
}

// Undo gives the claim up and removes the volume if Ensure made it and nobody
// else uses it by now: for a creation that failed.
func (c *Claim) Undo(ctx context.Context) error {
	if err := c.lease.Release(); err != nil || !c.Created {
		return err
	}
	err := c.s.Remove(ctx, c.Name)
	if errors.Is(err, fault.ErrInUse) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Ensure returns the volume of that name, made if there was none, and claimed:
// no process can remove it until the claim is released or the claimer dies. An
// existing volume is taken as it is, whatever the spec's labels and options,
// as Docker does.
func (s *Store) Ensure(ctx context.Context, spec *Spec) (*Claim, error) {
	c, err := spec.checked()
	if err != nil {
		return nil, err
	}
	l, err := s.lock(ctx, c.Name, true)
	if err != nil {
		return nil, err
	}
	defer l.Release()
	claim := &Claim{s: s}
	claim.Volume, err = s.read(c.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := checkDevice(c.Options["device"]); err != nil {
			return nil, err
		}
		claim.Created = true
		if c.Anonymous {
			if err := s.pend(c.Name); err != nil {
				s.dropHalf(c.Name)
				return nil, err
			}
		}
		if claim.Volume, err = s.make(ctx, c); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	default:
		if err := checkDevice(claim.Options["device"]); err != nil {
			return nil, err
		}
	}
	// The lease is taken under lock only, and exclusively for no longer than
	// lock is held: it is free for us.
	claim.lease, err = flock.Try(s.path(c.Name, "lease"), flock.Shared)
	if err != nil {
		return nil, trouble("claim the volume", err)
	}
	step.At("volume.claimed")
	return claim, nil
}
