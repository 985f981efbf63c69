package recovery

import (
	"context"
	"errors"
	"os"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/networks"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/volumes"
)

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
	for _, e := range c.Networks {
		if len(e.Addresses) > 0 {
			if err := networks.Open(root).Release(e.Network, c.ID); err != nil {
				return nil, err
			}
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
