package main

import (
	"context"
	"fmt"

	"github.com/amphora-go/amphora/image"
)

var pushCommand = command{
	name: "push", args: "NAME[:TAG]", summary: "Upload an image to a registry",
	min: 1, max: 1,
	setup: func(f *flags) action {
		var quiet bool
		var o image.PushOptions
		f.bool(&o.AllTags, "a,all-tags", "Push all tags of an image to the repository")
		f.text(&o.Compress, "compress", "Compress all layers with `gzip` or zstd, or keep them as they are")
		f.text(&o.Platform, "platform", "Push the image for this `platform` alone, such as linux/arm64")
		f.bool(&quiet, "q,quiet", "Suppress verbose output")
		return func(ctx context.Context, a *app, args []string) error {
			ref, err := image.ParseRef(args[0])
			if err != nil {
				return err
			}
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			p := newProgress(a.stdout)
			if !quiet {
				fmt.Fprintf(a.stdout, "The push refers to repository [%s]\n", ref.Name())
				p.finished = "Pushed"
				p.existed = "Layer already exists"
				o.Progress = p.update
			}
			done, err := eng.Images().Push(ctx, args[0], &o)
			p.done()
			for _, d := range done {
				if quiet {
					fmt.Fprintln(a.stdout, d.Ref)
				} else {
					fmt.Fprintf(a.stdout, "%s: digest: %s size: %d\n", d.Ref.Tag, d.Digest, d.Size)
				}
			}
			return err
		}
	},
}
