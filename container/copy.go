package container

import (
	"context"
	"errors"
	"os"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/store"
)

// copyLayers makes the root of a container on a machine without overlay: a
// plain copy of the layers, once. It is loud: such a container costs the disk
// its whole image.
func (c *Container) copyLayers(ctx context.Context, rec *record.Container) error {
	root := c.m.root.Path(c.id, "rootfs")
	if !rec.Copy || exists(root) {
		return nil
	}
	l, err := c.m.root.Lock(ctx, c.id)
	if err != nil {
		return err
	}
	defer l.Release()
	if exists(root) {
		return nil // another process made it
	}
	c.m.log.Warn("amphora: this machine has no overlay file system: the container's root is a full copy of its image",
		"container", rec.Name, "image", rec.Image, "cure", "modprobe overlay")
	half := c.m.root.Path(c.id, "rootfs.half")
	if err := os.RemoveAll(half); err != nil {
		return fault.Opaque(err)
	}
	s := store.Open(c.m.root.Dir, c.m.root.State, c.m.root.Log)
	if err := s.Materialise(ctx, rec.Layers, half); err != nil {
		return errors.Join(err, os.RemoveAll(half))
	}
	step.At("copy.made")
	return fault.Opaque(os.Rename(half, root))
}
