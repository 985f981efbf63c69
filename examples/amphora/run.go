package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/container"
)

var runCommand = command{
	name: "run", args: "IMAGE [COMMAND] [ARG...]", summary: "Create and run a new container from an image",
	max: -1, foreign: true,
	setup: func(f *flags) action {
		var o createOptions
		var detach bool
		join := joinOptions{proxy: true}
		f.bool(&detach, "d,detach", "Run container in background and print container ID")
		join.define(f)
		o.define(f)
		return func(ctx context.Context, a *app, args []string) error {
			o.attached = !detach
			c, err := o.create(ctx, a, args)
			if err != nil {
				return coded{err, 125}
			}
			if detach {
				if err := c.Start(ctx); err != nil {
					return coded{err, container.Code(err)}
				}
				fmt.Fprintln(a.stdout, c.ID())
				return nil
			}
			join.stdin, join.tty = o.Stdin, o.TTY
			return a.runAttached(ctx, c, &join)
		}
	},
}

var createCommand = command{
	name: "create", args: "IMAGE [COMMAND] [ARG...]", summary: "Create a new container",
	max: -1, foreign: true,
	setup: func(f *flags) action {
		var o createOptions
		o.define(f)
		return func(ctx context.Context, a *app, args []string) error {
			c, err := o.create(ctx, a, args)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, c.ID())
			return nil
		}
	},
}

// createOptions are what run and create have in common.
type createOptions struct {
	specFlags
	pull, cidfile string
	quiet         bool
	attached      bool
}

func (o *createOptions) define(f *flags) {
	o.specFlags.define(f)
	f.text(&o.pull, "pull", "Pull image before creating, by `policy`: always, missing (default) or never")
	f.bool(&o.quiet, "q,quiet", "Suppress the pull output")
	f.text(&o.cidfile, "cidfile", "Write the container ID to the `file`")
}

func (o *createOptions) create(ctx context.Context, a *app, args []string) (*container.Container, error) {
	if err := o.complete(args); err != nil {
		return nil, err
	}
	if o.attached && o.Stdin {
		o.StdinOnce = true
		if err := a.checkTerminal(o.TTY); err != nil {
			return nil, err
		}
	}
	if o.TTY {
		o.Width, o.Height = a.terminalSize()
	}
	if o.cidfile != "" {
		if _, err := os.Stat(o.cidfile); err == nil {
			return nil, fmt.Errorf("container ID file %s exists: make sure the other container isn't running, or delete it", o.cidfile)
		}
	}
	if warning := o.dropPorts(); warning != "" {
		fmt.Fprintln(a.stderr, warning)
	}
	eng, err := a.engine(ctx)
	if err != nil {
		return nil, err
	}
	if err := o.ensureImage(ctx, a, eng); err != nil {
		return nil, err
	}
	c, err := eng.Containers().Create(ctx, &o.Spec, nil)
	if err != nil || o.cidfile == "" {
		return c, err
	}
	return c, os.WriteFile(o.cidfile, []byte(c.ID()), 0o644)
}

// ensureImage pulls the image if that is wanted. Create itself never does.
func (o *createOptions) ensureImage(ctx context.Context, a *app, eng *amphora.Engine) error {
	if o.Image == "" {
		return nil
	}
	switch o.pull {
	case "always":
	case "never":
		return nil
	case "", "missing":
		_, err := eng.Images().Get(ctx, o.Image)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		fmt.Fprintf(a.stderr, "Unable to find image '%s' locally\n", o.Image)
	default:
		return fmt.Errorf("--pull %q: give always, missing or never", o.pull)
	}
	out := a.stderr
	if o.quiet {
		out = nil
	}
	return a.pull(ctx, eng, out, o.Image, nil)
}
