package main

import (
	"context"
	"time"

	"github.com/amphora-go/amphora/image"
)

var imagesCommand = command{
	name: "images", args: "[REPOSITORY[:TAG]]", summary: "List images",
	max: 1,
	setup: func(f *flags) action {
		var quiet, full, digests, all, tree bool
		var format string
		var filters []string
		f.bool(&all, "a,all", "Accepted for Docker's sake: there are no hidden images")
		f.bool(&digests, "digests", "Show digests")
		f.list(&filters, "f,filter", imageFilterUsage)
		f.text(&format, "format", "Print json, or by a `template` such as '{{.Repository}}'")
		f.bool(&full, "no-trunc", "Don't truncate output")
		f.bool(&quiet, "q,quiet", "Only show image IDs")
		f.bool(&tree, "tree", "Show the platforms of each image")
		return func(ctx context.Context, a *app, args []string) error {
			o, err := imageFilters(filters)
			if err != nil {
				return err
			}
			o.References = append(o.References, args...)
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			infos, err := eng.Images().List(ctx, o)
			if err != nil {
				return err
			}
			if tree {
				return a.imageTree(ctx, eng.Images(), infos)
			}
			var rows []imageRow
			for _, info := range infos {
				rows = append(rows, imageRows(info, full)...)
			}
			t := imageTable
			if digests {
				t = digestTable
			}
			return t.print(a.stdout, format, quiet, rows)
		}
	},
}

// imageRow is a line of images, with the names that Docker's templates use.
type imageRow struct {
	Repository, Tag, Digest, ID, CreatedAt, CreatedSince, Size string
}

var imageTable = table[imageRow]{
	columns: []string{"REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"},
	quiet:   func(r imageRow) string { return r.ID },
	cells: func(r imageRow) []string {
		return []string{r.Repository, r.Tag, r.ID, r.CreatedSince, r.Size}
	},
}

var digestTable = table[imageRow]{
	columns: []string{"REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"},
	quiet:   imageTable.quiet,
	cells: func(r imageRow) []string {
		return []string{r.Repository, r.Tag, r.Digest, r.ID, r.CreatedSince, r.Size}
	},
}

const none = "<none>"

// imageRows are a line for each tag, or one line if there is none.
func imageRows(i image.Info, full bool) []imageRow {
	row := imageRow{Repository: none, Tag: none, Digest: none, ID: i.ID, Size: size(i.Size), CreatedSince: age(i.Created),
		CreatedAt: i.Created.Local().Format(time.RFC3339)}
	if !full {
		row.ID = short(i.ID)
	}
	if i.Problem != "" {
		row.Size = "damaged"
	}
	if len(i.Refs) == 0 {
		if len(i.Digests) > 0 {
			row.Repository, row.Digest = shortRepository(i.Digests[0]), i.Digests[0].Digest
		}
		return []imageRow{row}
	}
	var rows []imageRow
	for _, ref := range i.Refs {
		r := row
		r.Repository, r.Tag = shortRepository(ref), ref.Tag
		for _, d := range i.Digests {
			if d.Name() == ref.Name() {
				r.Digest = d.Digest
			}
		}
		rows = append(rows, r)
	}
	return rows
}
