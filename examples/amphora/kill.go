package main

import (
	"context"

	"github.com/amphora-go/amphora/container"
)

var killCommand = command{
	name: "kill", args: "CONTAINER [CONTAINER...]", summary: "Kill one or more running containers",
	min: 1, max: -1,
	setup: func(f *flags) action {
		signal := "KILL"
		f.text(&signal, "s,signal", "Send this `signal` to the container (default KILL)")
		return func(ctx context.Context, a *app, args []string) error {
			return a.each(ctx, args, func(c *container.Container) error { return c.Signal(ctx, signal) })
		}
	},
}
