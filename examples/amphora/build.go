package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/amphora-go/amphora/image/build"
)

var buildCommand = command{
	name: "build", args: "PATH | URL | -", summary: "Build an image from a Dockerfile",
	min: 1, max: 1,
	setup: func(f *flags) action {
		b := &buildFlags{}
		b.define(f)
		return func(ctx context.Context, a *app, args []string) error {
			r, err := b.request(a, args[0])
			if err != nil {
				return err
			}
			builder, err := a.builder(ctx)
			if err != nil {
				return err
			}
			mode := b.progress
			if b.quiet {
				mode = build.ProgressQuiet
			}
			show, err := build.NewRenderer(mode, a.stderr)
			if err != nil {
				return usagef(125, "%w", err)
			}
			r.Progress = show.Event
			result, err := builder.Build(ctx, r)
			if err := errors.Join(err, show.Close(err)); err != nil {
				return err
			}
			return b.finish(ctx, a, result)
		}
	},
}

// finish does what comes after the build: files that say what was built, and
// pushing.
func (b *buildFlags) finish(ctx context.Context, a *app, result *build.Result) error {
	if b.iidFile != "" {
		if err := os.WriteFile(b.iidFile, []byte(result.ID), 0o644); err != nil {
			return err
		}
	}
	if b.metadataFile != "" {
		data, err := json.MarshalIndent(result.Metadata(), "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(b.metadataFile, append(data, '\n'), 0o644); err != nil {
			return err
		}
	}
	if b.quiet && !b.stdout && result.ID != "" {
		fmt.Fprintln(a.stdout, result.ID)
	}
	if !b.push {
		return nil
	}
	for _, name := range result.Names {
		if _, err := a.eng.Images().Push(ctx, name, nil); err != nil {
			return err
		}
	}
	return nil
}
