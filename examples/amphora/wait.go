package main

import (
	"context"
	"fmt"

	"github.com/amphora-go/amphora/container"
)

var waitCommand = command{
	name: "wait", args: "CONTAINER [CONTAINER...]", summary: "Block until one or more containers stop, then print their exit codes",
	min: 1, max: -1,
	setup: func(f *flags) action {
		return func(ctx context.Context, a *app, args []string) error {
			return a.eachName(ctx, args, func(ref string) error {
				c, err := a.container(ctx, ref)
				if err != nil {
					return err
				}
				exit, err := c.Wait(ctx, container.NotRunning)
				if err == nil {
					fmt.Fprintln(a.stdout, exit.Code)
				}
				return err
			})
		}
	},
}
