package main

import (
	"context"
	"fmt"

	"github.com/amphora-go/amphora/image"
)

var rmiCommand = command{
	name: "rmi", args: "IMAGE [IMAGE...]", summary: "Remove one or more images",
	min: 1, max: -1,
	setup: func(f *flags) action {
		var o image.RemoveOptions
		f.bool(&o.Force, "f,force", "Force removal of the image")
		return func(ctx context.Context, a *app, args []string) error {
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			return a.eachName(ctx, args, func(name string) error {
				r, err := eng.Images().Remove(ctx, name, &o)
				if err != nil {
					return err
				}
				for _, ref := range r.Untagged {
					fmt.Fprintln(a.stdout, "Untagged:", ref.Familiar())
				}
				if r.Deleted {
					fmt.Fprintln(a.stdout, "Deleted:", r.ID)
				}
				for _, layer := range r.Layers {
					fmt.Fprintln(a.stdout, "Deleted: sha256:"+layer)
				}
				return nil
			})
		}
	},
}
