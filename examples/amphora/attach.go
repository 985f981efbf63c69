package main

import (
	"context"
	"fmt"
	"time"

	"github.com/amphora-go/amphora/container"
)

var attachCommand = command{
	name: "attach", args: "CONTAINER", summary: "Attach local standard input, output, and error streams to a running container",
	min: 1, max: 1,
	setup: func(f *flags) action {
		join := joinOptions{proxy: true}
		var noStdin bool
		f.bool(&noStdin, "no-stdin", "Do not attach STDIN")
		join.define(f)
		return func(ctx context.Context, a *app, args []string) error {
			c, info, err := a.inspect(ctx, args[0])
			switch {
			case err != nil:
				return err
			case info.Status == container.Paused:
				return fmt.Errorf("%s is paused: unpause it first", args[0])
			case info.Status != container.Running:
				return fmt.Errorf("%s is not running: start it first, or use start -a", args[0])
			}
			join.stdin, join.tty = info.Stdin && !noStdin, info.TTY
			if join.stdin {
				if err := a.checkTerminal(join.tty); err != nil {
					return err
				}
			}
			return a.attach(ctx, c, &join)
		}
	},
}

// attach joins a running container and ends with its exit code.
func (a *app) attach(ctx context.Context, c *container.Container, o *joinOptions) error {
	streams, restore, err := a.streams(o)
	if err != nil {
		return err
	}
	defer restore()
	ctx, open, stop := a.follow(ctx, c, o)
	defer stop()
	open()
	// A container with --rm is gone once its output has ended: who wants the
	// exit code must wait from before that. It may end before the wait begins,
	// so this is not for the next exit.
	type end struct {
		exit *container.Exit
		err  error
	}
	ended := make(chan end, 1)
	go func() {
		exit, err := c.Wait(ctx, container.NotRunning)
		ended <- end{exit, err}
	}()
	a.redraw(ctx, c, o)
	if err := c.Attach(ctx, streams); err != nil {
		return a.ended(ctx, nil, err)
	}
	e := <-ended
	return a.ended(ctx, e.exit, e.err)
}

// redraw has programs paint a terminal anew, by a change of its size, once what
// they paint can be seen here.
func (a *app) redraw(ctx context.Context, c *container.Container, o *joinOptions) {
	if !o.tty {
		return
	}
	time.AfterFunc(100*time.Millisecond, func() {
		if w, h := a.terminalSize(); h > 0 {
			c.Resize(ctx, w, h+1)
			c.Resize(ctx, w, h)
		}
	})
}
