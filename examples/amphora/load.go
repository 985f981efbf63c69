package main

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/term"

	"github.com/amphora-go/amphora/image"
)

var loadCommand = command{
	name: "load", summary: "Load an image from a tar archive or STDIN",
	setup: func(f *flags) action {
		var o image.LoadOptions
		var quiet bool
		input := "-"
		f.text(&input, "i,input", "Read from tar archive `file`, or the directory of an OCI layout, instead of STDIN")
		f.bool(&quiet, "q,quiet", "Suppress the load output")
		f.text(&o.Platform, "platform", "Load only the given `platform`")
		return func(ctx context.Context, a *app, _ []string) error {
			in, err := a.open(input)
			if err != nil {
				return err
			}
			defer in.Close()
			if term.IsTerminal(int(in.Fd())) {
				return errors.New("requested load from stdin, but stdin is a terminal; give -i FILE")
			}
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			p := newProgress(a.stderr)
			if p.bars && !quiet {
				o.Progress = p.update
			}
			var all []image.Loaded
			if st, serr := in.Stat(); serr == nil && st.IsDir() {
				all, err = eng.Images().LoadDir(ctx, input, &o)
			} else {
				all, err = eng.Images().Load(ctx, in, &o)
			}
			for _, l := range all {
				if len(l.Refs) == 0 {
					fmt.Fprintln(a.stdout, "Loaded image ID:", l.Image.ID())
				}
				for _, ref := range l.Refs {
					fmt.Fprintln(a.stdout, "Loaded image:", ref.Familiar())
				}
			}
			return err
		}
	},
}
