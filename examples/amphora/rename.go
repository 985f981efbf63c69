package main

import "context"

var renameCommand = command{
	name: "rename", args: "CONTAINER NEW_NAME", summary: "Rename a container",
	min: 2, max: 2,
	setup: func(f *flags) action {
		return func(ctx context.Context, a *app, args []string) error {
			c, err := a.container(ctx, args[0])
			if err != nil {
				return err
			}
			return c.Rename(ctx, args[1])
		}
	},
}
