package container

import (
	"context"

	"github.com/amphora-go/amphora/internal/cgroup"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
)

// group is the control group of this store.
func (m *Manager) group() (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.base == "" {
		base, err := cgroup.Base(m.opts.CgroupParent, m.root.ID)
		if err != nil {
			return "", err
		}
		m.base = base
	}
	return m.base, nil
}

// holdGroup keeps the store's control group from being removed as idle while
// a container is started in it.
func (m *Manager) holdGroup(ctx context.Context) (*flock.Lock, error) {
	l, err := flock.Acquire(ctx, m.root.GroupLock(), flock.Shared)
	return l, fault.Opaque(err)
}

// leaveGroup removes the store's control group if nothing is in it and nobody
// starts anything. m.mu is held.
func (m *Manager) leaveGroup() {
	if m.base == "" {
		return // this manager started nothing
	}
	l, err := flock.Try(m.root.GroupLock(), flock.Exclusive)
	if err != nil {
		return
	}
	defer l.Release()
	cgroup.RemoveIdle(m.base)
}
