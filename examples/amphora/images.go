package main

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/amphora-go/amphora/image"
)

var imagesCommand = command{
	name: "images", args: "[REPOSITORY[:TAG]]", summary: "List images",
	max: 1,
	setup: func(f *flags) action {
		var quiet, full, digests, all bool
		var format string
		var filters []string
		f.bool(&all, "a,all", "Accepted for Docker's sake: there are no hidden images")
		f.bool(&digests, "digests", "Show digests")
		f.list(&filters, "f,filter", "Filter output by `condition`: dangling=true, reference=PATTERN or label=KEY[=VALUE]")
		f.text(&format, "format", "Print json, or by a `template` such as '{{.Repository}}'")
		f.bool(&full, "no-trunc", "Don't truncate output")
		f.bool(&quiet, "q,quiet", "Only show image IDs")
		return func(ctx context.Context, a *app, args []string) error {
			for _, pattern := range args {
				filters = append(filters, "reference="+pattern)
			}
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			infos, err := eng.Images().List(ctx, nil)
			if err != nil {
				return err
			}
			var rows []imageRow
			for _, info := range infos {
				for _, r := range imageRows(info, full) {
					ok, err := r.matches(filters, info)
					if err != nil {
						return err
					}
					if ok {
						rows = append(rows, r)
					}
				}
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

// matches reports whether all filters hold; of several references, any.
func (r imageRow) matches(filters []string, i image.Info) (bool, error) {
	references, hit := 0, false
	for _, f := range filters {
		key, v, _ := strings.Cut(f, "=")
		switch key {
		case "dangling":
			if (len(i.Refs) == 0) != (v == "true" || v == "1") {
				return false, nil
			}
		case "label":
			k, want, valued := strings.Cut(v, "=")
			if have, ok := i.Labels[k]; !ok || valued && have != want {
				return false, nil
			}
		case "reference":
			references++
			hit = hit || like(v, r.Repository) || like(v, r.Repository+":"+r.Tag)
		default:
			return false, fmt.Errorf("unknown filter %q: use dangling, label or reference", key)
		}
	}
	return references == 0 || hit, nil
}

func like(pattern, s string) bool {
	ok, err := path.Match(pattern, s)
	return ok && err == nil
}
