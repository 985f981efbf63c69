package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/amphora-go/amphora/image"
)

// imageTree prints each image with the platforms that its name stands for.
func (a *app) imageTree(ctx context.Context, images *image.Store, infos []image.Info) error {
	tw := tabwriter.NewWriter(a.stdout, 10, 1, 3, ' ', 0)
	fmt.Fprintln(tw, "IMAGE\tID\tSIZE\tHERE")
	for _, i := range infos {
		name, names := none, []string{i.ID}
		if len(i.Refs) > 0 {
			name, names = i.Refs[0].Familiar(), nil
			for _, r := range i.Refs {
				names = append(names, r.Familiar())
			}
		}
		for k, n := range names {
			if k > 0 {
				name = n
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t\n", name, short(i.ID), size(i.Size))
			platforms, err := images.Platforms(ctx, n)
			if err != nil {
				fmt.Fprintf(tw, "└─ %v\t\t\t\n", err)
				continue
			}
			for at, p := range platforms {
				branch, here, bytes := "├─", "no", ""
				if at == len(platforms)-1 {
					branch = "└─"
				}
				if p.Present {
					here = "yes"
				}
				if p.Size > 0 {
					bytes = size(p.Size)
				}
				fmt.Fprintf(tw, "%s %s\t%s\t%s\t%s\n", branch, p.Platform, short(p.Manifest), bytes, here)
			}
		}
	}
	return tw.Flush()
}
