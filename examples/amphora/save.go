package main

import (
	"context"
	"errors"
	"os"

	"golang.org/x/term"

	"github.com/amphora-go/amphora/image"
)

var saveCommand = command{
	name: "save", args: "IMAGE [IMAGE...]", summary: "Save one or more images to a tar archive (streamed to STDOUT by default)",
	min: 1, max: -1,
	setup: func(f *flags) action {
		var o image.SaveOptions
		var output, dir string
		f.text(&o.Compress, "compress", "Compress all layers with `gzip` or zstd; default as they are")
		f.text(&dir, "directory", "Write an OCI layout into this `directory`, instead of an archive")
		f.bool(&o.OCI, "oci", "Write an OCI layout without what docker load needs")
		f.text(&output, "o,output", "Write to a `file`, instead of STDOUT")
		f.text(&o.Platform, "platform", "Save only the given `platform`")
		return func(ctx context.Context, a *app, args []string) error {
			if output == "" && dir == "" && term.IsTerminal(int(a.stdout.Fd())) {
				return errors.New("cowardly refusing to save to a terminal; use the -o flag or redirect")
			}
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			switch {
			case dir != "":
				return eng.Images().SaveDir(ctx, dir, args, &o)
			case output == "":
				return eng.Images().Save(ctx, a.stdout, args, &o)
			}
			if st, err := os.Stat(output); err == nil && !st.Mode().IsRegular() { // a pipe or device
				out, err := os.OpenFile(output, os.O_WRONLY, 0)
				if err != nil {
					return err
				}
				defer out.Close()
				return eng.Images().Save(ctx, out, args, &o)
			}
			// Under another name until it is complete.
			out, err := os.Create(output + ".part")
			if err != nil {
				return err
			}
			defer os.Remove(out.Name()) // fails harmlessly once it is renamed
			defer out.Close()
			if err := eng.Images().Save(ctx, out, args, &o); err != nil {
				return err
			}
			if err := out.Close(); err != nil {
				return err
			}
			return os.Rename(out.Name(), output)
		}
	},
}
