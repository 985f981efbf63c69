package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/amphora-go/amphora/volume"
)

var volumeList = command{
	name: "ls", summary: "List volumes",
	setup: func(f *flags) action {
		var filter volume.Filter
		var quiet bool
		var format string
		each(f, "f,filter", "Filter output by `condition`: dangling=true, name=, label= or driver=", func(s string) error {
			return volumeFilter(&filter, s)
		})
		f.text(&format, "format", "Print json, or by a `template` such as '{{.Name}}'")
		f.bool(&quiet, "q,quiet", "Only display volume names")
		return func(ctx context.Context, a *app, _ []string) error {
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			infos, err := eng.Volumes().List(ctx, &filter)
			if err != nil {
				return err
			}
			rows := make([]volumeRow, len(infos))
			for i, v := range infos {
				rows[i] = volumeRow{Driver: v.Driver, Name: v.Name, Mountpoint: v.Source, Labels: joined(v.Labels), Scope: "local"}
			}
			return volumeTable.print(a.stdout, format, quiet, rows)
		}
	},
}

func volumeFilter(f *volume.Filter, s string) error {
	key, v, _ := strings.Cut(s, "=")
	switch key {
	case "name":
		f.Names = append(f.Names, v)
	case "label":
		f.Labels = append(f.Labels, v)
	case "driver":
		f.Drivers = append(f.Drivers, v)
	case "dangling":
		dangling, err := strconv.ParseBool(v)
		f.Dangling = &dangling
		return err
	default:
		return fmt.Errorf("unknown filter %q: use dangling, name, label or driver", key)
	}
	return nil
}

type volumeRow struct {
	Driver, Name, Mountpoint, Labels, Scope string
}

var volumeTable = table[volumeRow]{
	columns: []string{"DRIVER", "VOLUME NAME"},
	quiet:   func(r volumeRow) string { return r.Name },
	cells:   func(r volumeRow) []string { return []string{r.Driver, r.Name} },
}
