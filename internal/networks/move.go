package networks

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/amphora-go/amphora/internal/cni"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/step"
)

// move chooses other subnets for a network whose own were taken by somebody
// else while it was idle. It is refused where the caller chose them, where
// anybody is attached, and where an address was promised.
func (s *Store) move(ctx context.Context, name string) error {
	l, err := s.lock(ctx, flock.Exclusive)
	if err != nil {
		return err
	}
	defer l.Release()
	old, err := s.Get(ctx, name)
	if err != nil {
		return err
	}
	if err := s.cni().Up(ctx, old.Conflist); !errors.Is(err, cni.ErrOverlap) {
		return err // another process moved it already
	}
	if !old.Auto {
		return fault.Invalid("the network's subnets were given when it was made: remove what has the route, or make the network anew")
	}
	if _, live, err := s.judge(ctx, old.Name); err != nil || len(live) > 0 {
		return errors.Join(err, fault.Kind(fault.ErrInUse, "%s", users(live)))
	}
	if kept, err := os.ReadDir(s.dir(".reserved", old.Name)); err == nil && len(kept) > 0 {
		return fault.Kind(fault.ErrInUse, "containers were promised addresses of it")
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Opaque(err)
	}
	release, err := lockSubnets(ctx)
	if err != nil {
		return err
	}
	defer release()
	n := *old
	if n.Subnets, err = s.choose(ctx, nil, n.IPv6); err != nil {
		return err
	}
	for i := range n.Subnets {
		if err := n.Subnets[i].check(); err != nil {
			return err
		}
	}
	if err := s.cni().GC(ctx, old.Conflist, nil); err != nil {
		return err
	}
	step.At("network.move.begun")
	plugins, err := n.plugins()
	if err != nil {
		return err
	}
	_, err = s.root.Log.Update(ctx, n.event("update"), s.conflist(n.Name), true, func(seq uint64) ([]byte, error) {
		n.Seq = seq
		return n.encode(plugins)
	})
	return err
}
