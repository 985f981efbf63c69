package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/image"
)

var pullCommand = command{
	name: "pull", args: "NAME[:TAG|@DIGEST]", summary: "Download an image from a registry",
	min: 1, max: 1,
	setup: func(f *flags) action {
		var quiet, all bool
		var o image.PullOptions
		f.bool(&all, "a,all-tags", "Download all tagged images in the repository")
		f.bool(&quiet, "q,quiet", "Suppress verbose output")
		f.text(&o.Platform, "platform", "Pull the image for this `platform`, such as linux/arm64")
		return func(ctx context.Context, a *app, args []string) error {
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			out := a.stdout
			if quiet {
				out = nil
			}
			if all {
				return a.pullAll(ctx, eng, out, args[0], &o)
			}
			if err := a.pull(ctx, eng, out, args[0], &o); err != nil {
				return err
			}
			ref, err := image.ParseRef(args[0])
			fmt.Fprintln(a.stdout, ref)
			return err
		}
	},
}

func (a *app) pullAll(ctx context.Context, eng *amphora.Engine, out *os.File, name string, o *image.PullOptions) error {
	tags, err := eng.Images().Tags(ctx, name)
	if err != nil {
		return err
	}
	for _, tag := range tags {
		one := *o
		if err := a.pull(ctx, eng, out, name+":"+tag, &one); err != nil {
			return err
		}
	}
	ref, err := image.ParseRef(name)
	fmt.Fprintln(a.stdout, ref.Name())
	return err
}

// pull pulls an image and tells out, if not nil, how far it is.
func (a *app) pull(ctx context.Context, eng *amphora.Engine, out *os.File, name string, o *image.PullOptions) error {
	ref, err := image.ParseRef(name)
	if err != nil {
		return err
	}
	if o == nil {
		o = &image.PullOptions{}
	}
	before, err := eng.Images().Get(ctx, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if out == nil {
		_, err := eng.Images().Pull(ctx, name, o)
		return err
	}
	what := ref.Tag
	if ref.Digest != "" {
		what = ref.Digest
	}
	fmt.Fprintf(out, "%s: Pulling from %s\n", what, repository(ref))
	p := newProgress(out)
	o.Progress = p.update
	img, err := eng.Images().Pull(ctx, name, o)
	p.done()
	if err != nil {
		return err
	}
	status := "Downloaded newer image for"
	if before != nil && before.ID() == img.ID() {
		status = "Image is up to date for"
	}
	fmt.Fprintf(out, "Digest: %s\nStatus: %s %s\n", img.Manifest(), status, ref.Familiar())
	return nil
}

// repository is the name of the image without its tag, with the host unless it
// is Docker's.
func repository(r image.Ref) string {
	if r.Registry == "docker.io" {
		return r.Repository
	}
	return r.Name()
}

// shortRepository leaves out "library/", too.
func shortRepository(r image.Ref) string {
	if r.Registry == "docker.io" {
		return strings.TrimPrefix(r.Repository, "library/")
	}
	return r.Name()
}
