package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/amphora-go/amphora/container"
)

var startCommand = command{
	name: "start", args: "CONTAINER [CONTAINER...]", summary: "Start one or more stopped containers",
	min: 1, max: -1,
	setup: func(f *flags) action {
		var attach, interactive bool
		join := joinOptions{proxy: true}
		f.bool(&attach, "a,attach", "Attach STDOUT/STDERR and forward signals")
		f.bool(&interactive, "i,interactive", "Attach container's STDIN")
		join.define(f)
		return func(ctx context.Context, a *app, args []string) error {
			if !attach && !interactive {
				return a.each(ctx, args, func(c *container.Container) error { return c.Start(ctx) })
			}
			if len(args) > 1 {
				return errors.New("only one container can be started and attached to at once")
			}
			c, info, err := a.inspect(ctx, args[0])
			if err != nil {
				return err
			}
			join.stdin, join.tty = interactive && info.Stdin, info.TTY
			if join.stdin {
				if err := a.checkTerminal(join.tty); err != nil {
					return err
				}
			}
			return a.runAttached(ctx, c, &join)
		}
	},
}

// container finds a container by name, id or unique beginning of an id.
func (a *app) container(ctx context.Context, ref string) (*container.Container, error) {
	eng, err := a.engine(ctx)
	if err != nil {
		return nil, err
	}
	return eng.Containers().Get(ctx, ref)
}

// inspect finds a container and looks at it.
func (a *app) inspect(ctx context.Context, ref string) (*container.Container, *container.Info, error) {
	c, err := a.container(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	info, err := c.Inspect(ctx)
	return c, info, err
}

// each does something to each container, and prints the names of those where
// it succeeded. One that fails does not keep the others from it.
func (a *app) each(ctx context.Context, refs []string, do func(*container.Container) error) error {
	return a.eachName(ctx, refs, func(ref string) error {
		c, err := a.container(ctx, ref)
		if err == nil {
			err = do(c)
		}
		if err == nil {
			fmt.Fprintln(a.stdout, ref)
		}
		return err
	})
}

// eachName complains about all that fail but the last, whose error it returns.
func (a *app) eachName(ctx context.Context, names []string, do func(string) error) error {
	var failed error
	for _, name := range names {
		if err := do(name); err != nil {
			if failed != nil {
				a.complain(failed)
			}
			failed = err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return failed
}
