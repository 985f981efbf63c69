package main

import (
	"context"

	"github.com/amphora-go/amphora/container"
)

var pauseCommand = command{
	name: "pause", args: "CONTAINER [CONTAINER...]", summary: "Pause all processes within one or more containers",
	min: 1, max: -1,
	setup: func(f *flags) action {
		return func(ctx context.Context, a *app, args []string) error {
			return a.each(ctx, args, func(c *container.Container) error { return c.Pause(ctx) })
		}
	},
}

var unpauseCommand = command{
	name: "unpause", args: "CONTAINER [CONTAINER...]", summary: "Unpause all processes within one or more containers",
	min: 1, max: -1,
	setup: func(f *flags) action {
		return func(ctx context.Context, a *app, args []string) error {
			return a.each(ctx, args, func(c *container.Container) error { return c.Resume(ctx) })
		}
	},
}
