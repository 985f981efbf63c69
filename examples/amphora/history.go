package main

import (
	"context"
	"strings"
)

var historyCommand = command{
	name: "history", args: "IMAGE", summary: "Show the history of an image",
	min: 1, max: 1,
	setup: func(f *flags) action {
		var quiet, full bool
		var format string
		f.text(&format, "format", "Print json, or by a `template` such as '{{.CreatedBy}}'")
		f.bool(&full, "no-trunc", "Don't truncate output")
		f.bool(&quiet, "q,quiet", "Only show image IDs")
		return func(ctx context.Context, a *app, args []string) error {
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			img, err := eng.Images().Get(ctx, args[0])
			if err != nil {
				return err
			}
			var rows []historyRow
			for i, h := range img.History() {
				r := historyRow{ID: "<missing>", CreatedSince: age(h.Created), CreatedBy: h.CreatedBy, Size: size(h.Size), Comment: h.Comment}
				if i == 0 {
					r.ID = img.ID() // the steps below it are no images of their own
				}
				if !full {
					r.ID = short(r.ID)
					r.CreatedBy = cut(strings.ReplaceAll(r.CreatedBy, "\t", " "), 45)
				}
				rows = append(rows, r)
			}
			return historyTable.print(a.stdout, format, quiet, rows)
		}
	},
}

type historyRow struct {
	ID, CreatedSince, CreatedBy, Size, Comment string
}

var historyTable = table[historyRow]{
	columns: []string{"IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"},
	quiet:   func(r historyRow) string { return r.ID },
	cells: func(r historyRow) []string {
		return []string{r.ID, r.CreatedSince, r.CreatedBy, r.Size, r.Comment}
	},
}
