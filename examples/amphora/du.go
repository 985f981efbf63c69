package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/amphora-go/amphora/image"
)

var duCommand = command{
	name: "du", summary: "Show the disk usage of images",
	setup: func(f *flags) action {
		var verbose bool
		var format string
		f.text(&format, "format", "Print json, or by a `template` such as '{{.Size}}'")
		f.bool(&verbose, "v,verbose", "Show each image")
		return func(ctx context.Context, a *app, _ []string) error {
			tmpl, err := parseFormat(format)
			if err != nil {
				return err
			}
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			u, err := eng.Images().Usage(ctx)
			if err != nil {
				return err
			}
			if tmpl != nil {
				return tmpl(a.stdout, u)
			}
			return a.printUsage(u, verbose)
		}
	},
}

var systemCommand = command{
	name: "system", summary: "Look after the store",
	commands: []command{called("df", duCommand)},
}

func (a *app) printUsage(u *image.Usage, verbose bool) error {
	tw := tabwriter.NewWriter(a.stdout, 10, 1, 3, ' ', 0)
	if verbose {
		fmt.Fprintln(tw, "IMAGE\tIMAGE ID\tSIZE\tSHARED SIZE\tUNIQUE SIZE\tCONTAINERS\tUSED")
		for _, i := range u.Images {
			name := none
			if len(i.Refs) > 0 {
				name = i.Refs[0].Familiar()
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", name, short(i.ID), size(i.Size), size(i.Shared), size(i.Unique), i.Containers, age(i.Used))
		}
		fmt.Fprintln(tw)
	}
	var layers, blobs int64
	for _, p := range u.Layers {
		layers += p.Size
	}
	for _, p := range u.Blobs {
		blobs += p.Size
	}
	active := 0
	for _, i := range u.Images {
		if i.Containers > 0 {
			active++
		}
	}
	fmt.Fprintln(tw, "TYPE\tTOTAL\tACTIVE\tSIZE\tRECLAIMABLE")
	fmt.Fprintf(tw, "Images\t%d\t%d\t%s\t%s\n", len(u.Images), active, size(u.Size), size(u.Reclaimable))
	fmt.Fprintf(tw, "  layers\t%d\t\t%s\t\n  blobs\t%d\t\t%s\t\n  unfinished\t\t\t%s\t\n", len(u.Layers), size(layers), len(u.Blobs), size(blobs), size(u.Partial+u.Working))
	return tw.Flush()
}
