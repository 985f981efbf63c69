package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/amphora-go/amphora/image/build"
)

var builderCommand = command{
	name: "builder", args: "COMMAND", summary: "Manage the cache of builds",
	commands: []command{builderDuCommand, builderPruneCommand},
}

// builder opens the store for builds.
func (a *app) builder(ctx context.Context) (*build.Builder, error) {
	eng, err := a.engine(ctx)
	if err != nil {
		return nil, err
	}
	return build.New(eng.Images(), &build.Options{Helper: a.opts.Helper, CgroupParent: a.opts.CgroupParent, Logger: a.opts.Logger})
}

var builderDuCommand = command{
	name: "du", summary: "Disk usage of the cache of builds",
	setup: func(f *flags) action {
		var filters []string
		var verbose bool
		var format string
		f.list(&filters, "filter", "Provide `filter` values: until=24h, id=PREFIX, type=TYPE or description~=TEXT")
		f.text(&format, "format", "Print json, or by a `template` such as '{{.ID}}'")
		f.bool(&verbose, "verbose", "Show descriptions")
		return func(ctx context.Context, a *app, _ []string) error {
			b, err := a.builder(ctx)
			if err != nil {
				return err
			}
			o, err := cacheFilters(filters)
			if err != nil {
				return err
			}
			u, err := b.Usage(ctx)
			if err != nil {
				return err
			}
			var rows []cacheRow
			for _, i := range u.Items {
				if o.Matches(i) {
					rows = append(rows, newCacheRow(i))
				}
			}
			t := cacheTable
			if verbose {
				t = verboseCacheTable
			}
			if err := t.print(a.stdout, format, false, rows); err != nil || format != "" {
				return err
			}
			fmt.Fprintf(a.stdout, "\nShared:\t\t%s\nReclaimable:\t%s\nTotal:\t\t%s\n", size(u.Shared), size(u.Reclaimable), size(u.Total))
			return nil
		}
	},
}

var builderPruneCommand = command{
	name: "prune", summary: "Remove what builds keep for later ones",
	setup: func(f *flags) action {
		var filters []string
		var force, all, dry bool
		var keep int64
		f.bool(&all, "a,all", "Forget all results, also what images share, not just what takes up space")
		f.bool(&dry, "dry-run", "Only say what would be removed")
		f.list(&filters, "filter", "Provide `filter` values: until=24h, id=PREFIX, type=TYPE or description~=TEXT")
		f.bool(&force, "f,force", "Do not prompt for confirmation")
		value(f, &keep, "keep-storage", "Amount of disk space to keep for cache (`bytes`)", parseBytes)
		return func(ctx context.Context, a *app, _ []string) error {
			o, err := cacheFilters(filters)
			if err != nil {
				return err
			}
			o.All, o.Keep, o.DryRun = all, keep, dry
			if !force && !dry && !a.confirm("WARNING! This will remove build cache that no build uses now.") {
				return nil
			}
			b, err := a.builder(ctx)
			if err != nil {
				return err
			}
			p, err := b.Prune(ctx, o)
			if p != nil {
				var rows []cacheRow
				for _, i := range p.Items {
					rows = append(rows, newCacheRow(i))
				}
				if len(rows) > 0 {
					cacheTable.print(a.stdout, "", false, rows)
				}
				fmt.Fprintf(a.stdout, "Total:\t%s\n", size(p.Bytes))
			}
			return err
		}
	},
}

// cacheFilters reads --filter of du and prune.
func cacheFilters(filters []string) (*build.PruneOptions, error) {
	o := &build.PruneOptions{}
	for _, f := range filters {
		key, v, ok := strings.Cut(f, "=")
		switch key = strings.TrimSuffix(key, "~"); {
		case !ok || v == "":
			return nil, fmt.Errorf("filter %q: want KEY=VALUE", f)
		case key == "until", key == "unused-for":
			d, err := time.ParseDuration(v)
			if err != nil {
				return nil, fmt.Errorf("filter %q: want a duration, such as 24h", f)
			}
			o.Unused = d
		case key == "id":
			o.IDs = append(o.IDs, v)
		case key == "type":
			o.Types = append(o.Types, v)
		case key == "description":
			o.Description = v
		default:
			return nil, fmt.Errorf("filter %q is none of until, id, type and description", f)
		}
	}
	return o, nil
}

// cacheRow is a line of du, with the names that Docker's templates use.
type cacheRow struct {
	ID, CacheType, Size, CreatedSince, LastUsedSince, UsageCount, Description string
	Shared, Reclaimable, InUse                                                bool
}

func newCacheRow(i build.CacheItem) cacheRow {
	return cacheRow{ID: cut(i.ID, 25), CacheType: i.Type, Size: size(i.Size), CreatedSince: age(i.Created), LastUsedSince: age(i.Used),
		UsageCount: strconv.Itoa(i.Uses), Description: i.Description, Shared: i.Shared, InUse: i.InUse, Reclaimable: !i.InUse && !i.Shared}
}

var cacheTable = table[cacheRow]{
	columns: []string{"ID", "TYPE", "RECLAIMABLE", "SIZE", "LAST ACCESSED"},
	cells: func(r cacheRow) []string {
		return []string{r.ID, r.CacheType, strconv.FormatBool(r.Reclaimable), r.Size, r.LastUsedSince}
	},
}

var verboseCacheTable = table[cacheRow]{
	columns: append(cacheTable.columns, "USES", "DESCRIPTION"),
	cells:   func(r cacheRow) []string { return append(cacheTable.cells(r), r.UsageCount, r.Description) },
}
