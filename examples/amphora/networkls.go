package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/amphora-go/amphora/network"
)

var networkList = command{
	name: "ls", summary: "List networks",
	setup: func(f *flags) action {
		var o networkFilter
		var full, quiet bool
		var format string
		each(f, "f,filter", "Filter output by `condition`: name=, id=, driver=, label=, type=custom|builtin or dangling=true", o.set)
		f.text(&format, "format", "Print json, or by a `template` such as '{{.Name}}'")
		f.bool(&full, "no-trunc", "Do not truncate the output")
		f.bool(&quiet, "q,quiet", "Only display network IDs")
		return func(ctx context.Context, a *app, _ []string) error {
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			infos, err := eng.Networks().List(ctx, &o.ListOptions)
			if err != nil {
				return err
			}
			var rows []networkRow
			for _, i := range infos {
				if len(o.builtin) == 0 || slices.Contains(o.builtin, i.Builtin()) {
					rows = append(rows, newNetworkRow(i, full))
				}
			}
			return networkTable.print(a.stdout, format, quiet, rows)
		}
	},
}

type networkFilter struct {
	network.ListOptions
	builtin []bool
}

func (o *networkFilter) set(s string) error {
	key, v, _ := strings.Cut(s, "=")
	switch key {
	case "name":
		o.Names = append(o.Names, v)
	case "id":
		o.IDs = append(o.IDs, v)
	case "driver":
		o.Drivers = append(o.Drivers, v)
	case "label":
		o.Labels = append(o.Labels, v)
	case "type":
		if v != "custom" && v != "builtin" {
			return errors.New("want type=custom or type=builtin")
		}
		o.builtin = append(o.builtin, v == "builtin")
	case "dangling":
		dangling, err := strconv.ParseBool(v)
		o.Dangling = &dangling
		return err
	default:
		return fmt.Errorf("unknown filter %q: use name, id, driver, label, type or dangling", key)
	}
	return nil
}

// networkRow is a line of network ls, with the names that Docker's templates
// use.
type networkRow struct {
	ID, Name, Driver, Scope, CreatedAt, Labels string
	IPv4, IPv6, Internal                       bool
}

var networkTable = table[networkRow]{
	columns: []string{"NETWORK ID", "NAME", "DRIVER", "SCOPE"},
	quiet:   func(r networkRow) string { return r.ID },
	cells:   func(r networkRow) []string { return []string{r.ID, r.Name, r.Driver, r.Scope} },
}

func newNetworkRow(i *network.Info, full bool) networkRow {
	r := networkRow{ID: i.ID, Name: i.Name, Driver: i.Driver, Scope: "local", Labels: joined(i.Labels), Internal: i.Internal}
	if !full {
		r.ID = short(r.ID)
	}
	if r.ID == "" {
		r.ID = i.Name // the default network has no id before somebody used it
	}
	if i.Problem != "" {
		r.Driver = "damaged"
	}
	if !i.Created.IsZero() {
		r.CreatedAt = i.Created.Local().Format(time.RFC3339)
	}
	for _, s := range i.Subnets {
		r.IPv4, r.IPv6 = r.IPv4 || s.Prefix.Addr().Is4(), r.IPv6 || s.Prefix.Addr().Is6()
	}
	return r
}
