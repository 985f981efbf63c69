package main

import (
	"context"
	"errors"
	"io/fs"

	"github.com/amphora-go/amphora/container"
)

var rmCommand = command{
	name: "rm", args: "CONTAINER [CONTAINER...]", summary: "Remove one or more containers",
	min: 1, max: -1,
	setup: func(f *flags) action {
		var o container.RemoveOptions
		f.bool(&o.Force, "f,force", "Force the removal of a running container (uses SIGKILL)")
		f.bool(&o.Volumes, "v,volumes", "Remove anonymous volumes associated with the container")
		return func(ctx context.Context, a *app, args []string) error {
			err := a.each(ctx, args, func(c *container.Container) error {
				err := c.Remove(ctx, &o)
				if errors.Is(err, container.ErrRunning) {
					return errors.Join(err, errors.New("stop the container before removing it, or use -f"))
				}
				return err
			})
			if o.Force && errors.Is(err, fs.ErrNotExist) {
				a.complain(err)
				return nil // as with rm(1), nothing was left to do
			}
			return err
		}
	},
}
