package shim

import (
	"context"
	"errors"

	"github.com/amphora-go/amphora/internal/cgroup"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/step"
)

// update changes limits and policy: of the control group, of the record and of
// the next run. The supervisor writes the record itself, so that a client that
// dies leaves both changed or neither; when the supervisor dies, the group goes
// with it.
func (s *shim) update(u *Update) error {
	if u == nil {
		return fault.Invalid("the request has no update")
	}
	return s.do(func() error { // not beside a start, which reads the limits
		ctx := context.Background()
		l, err := s.root.Lock(ctx, s.c.ID)
		if err != nil {
			return err
		}
		defer l.Release()
		c, err := s.root.Load(s.c.ID)
		if err != nil {
			return err
		}
		if c.Seq != u.Seq {
			return fault.Kind(fault.ErrInUse, "the container was changed meanwhile")
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.exit != nil {
			return fault.ErrNotRunning
		}
		live := s.box != nil && !s.over // else its group may be gone: the next run begins with the new limits
		was := s.cfg.OCI.Linux.Resources
		if u.Limits != nil && live {
			if err := cgroup.Change(s.c.Cgroup, was, u.Limits.Resources); err != nil {
				return err
			}
		}
		step.At("update.applied")
		c.Restart = u.Restart
		if u.Limits != nil {
			c.Update = u.Limits
		}
		if err := s.root.Save(ctx, c, "update", nil); err != nil {
			if u.Limits != nil && live {
				err = errors.Join(err, cgroup.Change(s.c.Cgroup, u.Limits.Resources, was))
			}
			return err
		}
		step.At("update.recorded")
		if s.c.Restart = u.Restart; u.Limits != nil {
			s.cfg.OCI.Linux.Resources, s.cfg.Limits = u.Limits.Resources, u.Limits.Limits
		}
		return nil
	})
}
