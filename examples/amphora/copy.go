package main

import (
	"context"
	"fmt"

	"github.com/amphora-go/amphora/image"
)

var copyCommand = command{
	name: "copy", args: "SOURCE TARGET", summary: "Copy an image from registry to registry, without keeping it here",
	min: 2, max: 2,
	setup: func(f *flags) action {
		var quiet bool
		var o image.CopyOptions
		f.text(&o.Platform, "platform", "Copy the image for this `platform` alone, such as linux/arm64")
		f.bool(&quiet, "q,quiet", "Suppress verbose output")
		return func(ctx context.Context, a *app, args []string) error {
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			p := newProgress(a.stdout)
			if !quiet {
				p.finished, p.existed = "Pushed", "Layer already exists"
				o.Progress = p.update
			}
			done, err := eng.Images().Copy(ctx, args[0], args[1], &o)
			p.done()
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s: digest: %s size: %d\n", done.Ref, done.Digest, done.Size)
			return nil
		}
	},
}
