package main

import (
	"context"
	"fmt"

	"github.com/amphora-go/amphora/image"
)

var verifyCommand = command{
	name: "verify", args: "[IMAGE...]", summary: "Compare images with their digests",
	max: -1,
	setup: func(f *flags) action {
		var o image.RepairOptions
		var repair bool
		f.bool(&o.Drop, "drop", "With --repair: remove what cannot be repaired")
		f.bool(&o.Quick, "quick", "Only look whether everything is there")
		f.bool(&repair, "repair", "Fetch or unpack anew what is damaged")
		return func(ctx context.Context, a *app, args []string) error {
			if o.Drop && !repair {
				return usagef(125, "--drop goes with --repair")
			}
			if len(args) > 0 {
				o.Images = args
			}
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			if repair {
				return a.repair(ctx, eng.Images(), &o)
			}
			v, err := eng.Images().Verify(ctx, &o.VerifyOptions)
			if err != nil {
				return err
			}
			for _, p := range v.Problems {
				fmt.Fprintln(a.stdout, problem(p))
			}
			for _, chain := range v.Unproven {
				fmt.Fprintf(a.stdout, "layer %s: nothing to compare it with\n", short(chain))
			}
			fmt.Fprintf(a.stdout, "%d images, %d blobs (%s read), %d layers: %d problems, %d files that nothing needs\n",
				v.Images, v.Blobs, size(v.Bytes), v.Layers, len(v.Problems), len(v.Extra))
			if len(v.Problems) > 0 {
				return exitCode(1)
			}
			return nil
		}
	},
}

func problem(p image.Problem) string {
	s := p.Text
	if len(p.Images) > 0 {
		s += fmt.Sprintf(" (of %v)", p.Images)
	}
	return s
}

func (a *app) repair(ctx context.Context, images *image.Store, o *image.RepairOptions) error {
	done, err := images.Repair(ctx, o)
	lost := 0
	for _, r := range done {
		if r.Err != nil {
			lost++
			fmt.Fprintf(a.stdout, "%s: not repaired: %v\n", problem(r.Problem), r.Err)
		} else {
			fmt.Fprintf(a.stdout, "%s: %s\n", problem(r.Problem), r.Done)
		}
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "%d problems, %d left\n", len(done), lost)
	if lost > 0 {
		return exitCode(1)
	}
	return nil
}
