package main

import (
	"context"
	"fmt"
	"os"

	"github.com/amphora-go/amphora/image"
)

var importCommand = command{
	name: "import", args: "FILE|- [REPOSITORY[:TAG]]", summary: "Import the contents of a tarball to create an image",
	min: 1, max: 2,
	setup: func(f *flags) action {
		var o image.ImportOptions
		f.list(&o.Changes, "c,change", "Apply Dockerfile `instruction` to the created image")
		f.text(&o.Comment, "m,message", "Set commit `message` for imported image")
		f.text(&o.Platform, "platform", "Make it for this `platform`, such as linux/arm64")
		return func(ctx context.Context, a *app, args []string) error {
			if len(args) > 1 {
				o.Ref = args[1]
			}
			in, err := a.open(args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			img, err := eng.Images().Import(ctx, in, &o)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, img.ID())
			return nil
		}
	},
}

// open opens a file, or standard input for "-".
func (a *app) open(name string) (*os.File, error) {
	if name == "-" {
		return a.stdin, nil
	}
	return os.Open(name)
}
