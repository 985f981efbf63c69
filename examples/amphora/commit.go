package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/amphora-go/amphora/container"
)

var diffCommand = command{
	name: "diff", args: "CONTAINER", summary: "Inspect changes to files or directories on a container's filesystem",
	min: 1, max: 1,
	setup: func(f *flags) action {
		return func(ctx context.Context, a *app, args []string) error {
			c, err := a.container(ctx, args[0])
			if err != nil {
				return err
			}
			changes, err := c.Changes(ctx)
			for _, ch := range changes {
				fmt.Fprintln(a.stdout, ch.Kind, ch.Path)
			}
			return err
		}
	},
}

var exportCommand = command{
	name: "export", args: "CONTAINER", summary: "Export a container's filesystem as a tar archive",
	min: 1, max: 1,
	setup: func(f *flags) action {
		var output string
		f.text(&output, "o,output", "Write to a `file`, instead of STDOUT")
		return func(ctx context.Context, a *app, args []string) error {
			if st, err := a.stdout.Stat(); output == "" && err == nil && st.Mode()&os.ModeCharDevice != 0 {
				return errors.New("cowardly refusing to save to a terminal: use the -o flag or redirect")
			}
			c, err := a.container(ctx, args[0])
			if err != nil {
				return err
			}
			r, err := c.Export(ctx)
			if err != nil {
				return err
			}
			defer r.Close()
			if output == "" {
				_, err = io.Copy(a.stdout, r)
				return err
			}
			return save(output, r)
		}
	},
}

// save writes a file that is there only if it is whole.
func save(name string, r io.Reader) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(name)
	}
	return err
}

var commitCommand = command{
	name: "commit", args: "CONTAINER [REPOSITORY[:TAG]]", summary: "Create a new image from a container's changes",
	min: 1, max: 2,
	setup: func(f *flags) action {
		var o container.CommitOptions
		pause := true
		f.text(&o.Author, "a,author", "`Author`, such as \"John Hannibal Smith <hannibal@a-team.com>\"")
		f.list(&o.Changes, "c,change", "Apply Dockerfile `instruction` to the created image")
		f.text(&o.Message, "m,message", "Commit `message`")
		f.bool(&pause, "p,pause", "Pause container during commit (default true)")
		f.bool(&o.NoPause, "no-pause", "Disable pausing container during commit")
		return func(ctx context.Context, a *app, args []string) error {
			if len(args) > 1 {
				o.Ref = args[1]
			}
			o.NoPause = o.NoPause || !pause
			c, err := a.container(ctx, args[0])
			if err != nil {
				return err
			}
			img, err := c.Commit(ctx, &o)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, img.ID())
			return nil
		}
	},
}
