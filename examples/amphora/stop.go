package main

import (
	"context"

	"github.com/amphora-go/amphora/container"
)

var stopCommand = command{
	name: "stop", args: "CONTAINER [CONTAINER...]", summary: "Stop one or more running containers",
	min: 1, max: -1,
	setup: func(f *flags) action {
		var o container.StopOptions
		defineStop(f, &o)
		return func(ctx context.Context, a *app, args []string) error {
			return a.each(ctx, args, func(c *container.Container) error { return c.Stop(ctx, &o) })
		}
	},
}

var restartCommand = command{
	name: "restart", args: "CONTAINER [CONTAINER...]", summary: "Restart one or more containers",
	min: 1, max: -1,
	setup: func(f *flags) action {
		var o container.StopOptions
		defineStop(f, &o)
		return func(ctx context.Context, a *app, args []string) error {
			return a.each(ctx, args, func(c *container.Container) error { return c.Restart(ctx, &o) })
		}
	},
}

func defineStop(f *flags, o *container.StopOptions) {
	f.text(&o.Signal, "s,signal", "Send this `signal` to the container")
	value(f, &o.Timeout, "t,time", "Wait for so many `seconds` before killing the container", parseGrace)
	value(f, &o.Timeout, "timeout", "The same as --time (`seconds`)", parseGrace)
}
