package main

import (
	"context"
	"fmt"

	"github.com/amphora-go/amphora/image"
)

var imageCommand = command{
	name: "image", summary: "Manage images",
	commands: []command{called("ls", imagesCommand), pullCommand, pushCommand, called("rm", rmiCommand), imagePrune, tagCommand,
		historyCommand, saveCommand, loadCommand, importCommand, verifyCommand},
}

// called is a command under another name.
func called(name string, c command) command {
	c.name = name
	return c
}

var imagePrune = command{
	name: "prune", summary: "Remove unused images",
	setup: func(f *flags) action {
		var o image.PruneOptions
		var force bool
		var filters []string
		f.bool(&o.All, "a,all", "Remove all unused images, not just dangling ones")
		f.bool(&o.DryRun, "dry-run", "Only say what would be removed")
		f.list(&filters, "filter", imageFilterUsage)
		f.bool(&force, "f,force", "Do not prompt for confirmation")
		return func(ctx context.Context, a *app, _ []string) error {
			only, err := imageFilters(filters)
			if err != nil {
				return err
			}
			o.Only = *only
			which := "all dangling images"
			if o.All {
				which = "all images without at least one container associated to them"
			}
			if !force && !o.DryRun && !a.confirm("WARNING! This will remove "+which+".") {
				return nil
			}
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			p, err := eng.Images().Prune(ctx, &o)
			if p != nil {
				a.pruned(p, o.DryRun)
			}
			return err
		}
	},
}

func (a *app) pruned(p *image.Pruned, dry bool) {
	title, total := "Deleted Images:", "Total reclaimed space:"
	if dry {
		title, total = "Would delete:", "Would reclaim:"
	}
	if len(p.Images) > 0 {
		fmt.Fprintln(a.stdout, title)
	}
	for _, i := range p.Images {
		for _, ref := range i.Untagged {
			fmt.Fprintln(a.stdout, "untagged:", ref.Familiar())
		}
		fmt.Fprintln(a.stdout, "deleted:", i.ID)
	}
	if len(p.Images) > 0 {
		fmt.Fprintln(a.stdout)
	}
	fmt.Fprintln(a.stdout, total, size(p.Bytes))
}
