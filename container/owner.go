package container

import (
	"context"
	"os"

	"github.com/amphora-go/amphora/internal/shim"
)

// ownerFiles are what a supervisor needs to watch us. One pair serves all
// containers of a manager.
func (m *Manager) ownerFiles() ([]*os.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.owner == nil {
		o, err := shim.NewOwner()
		if err != nil {
			return nil, err
		}
		m.owner = o
	}
	return m.owner.Files(), nil
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
