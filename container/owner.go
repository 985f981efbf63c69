package container

import (
	"context"
	"errors"
	"os"

	"github.com/amphora-go/amphora/internal/pidfd"
)

// owner is this process as supervisors see it: a pipe whose other end we hold,
// and a descriptor of the process. When either speaks, we are gone.
type owner struct {
	ours, theirs *os.File
	self         *os.File
}

func (o *owner) close() error {
	if o == nil {
		return nil
	}
	return errors.Join(o.ours.Close(), o.theirs.Close(), o.self.Close())
}

// ownerFiles are what a supervisor needs to watch us. One pair serves all
// containers of a manager.
func (m *Manager) ownerFiles() ([]*os.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.owner == nil {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		self, err := pidfd.Self()
		if err != nil {
			return nil, errors.Join(err, r.Close(), w.Close())
		}
		m.owner = &owner{ours: w, theirs: r, self: self}
	}
	return []*os.File{m.owner.theirs, m.owner.self}, nil
}

// Own makes this Engine one of the owners of a running container: it is
// killed when the last owner is gone.
func (c *Container) Own(ctx context.Context) error {
	files, err := c.m.ownerFiles()
	if err != nil {
		return c.fail("own", err)
	}
	client, err := c.control(ctx)
	if err != nil {
		return c.fail("own", err)
	}
	defer client.Close()
	if err := client.Own(ctx, files[0], files[1]); err != nil {
		return c.fail("own", err)
	}
	return nil
}
