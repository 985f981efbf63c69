package main

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/amphora-go/amphora/container"
)

var psCommand = command{
	name: "ps", summary: "List containers",
	setup: func(f *flags) action {
		var all, quiet, full, latest bool
		var filter container.Filter
		var format string
		last := -1
		f.bool(&all, "a,all", "Show all containers (default shows just running)")
		each(f, "f,filter", "Filter output by `condition`: status=, name=, id=, label=, ancestor=, volume=, network= or publish=", func(s string) error {
			return containerFilter(&filter, s)
		})
		f.text(&format, "format", "Print json, or by a `template` such as '{{.Names}}'")
		value(f, &last, "n,last", "Show the last `number` of created containers (includes all states)", parseNumber[int])
		f.bool(&latest, "l,latest", "Show the latest created container (includes all states)")
		f.bool(&full, "no-trunc", "Don't truncate output")
		f.bool(&quiet, "q,quiet", "Only display container IDs")
		return func(ctx context.Context, a *app, _ []string) error {
			if latest {
				last = 1
			}
			if !all && last < 0 && len(filter.Status) == 0 {
				filter.Status = []container.Status{container.Running, container.Paused, container.Restarting}
			}
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			infos, err := eng.Containers().List(ctx, &filter)
			if err != nil {
				return err
			}
			if last >= 0 {
				infos = infos[:min(last, len(infos))]
			}
			rows := make([]psRow, len(infos))
			for i, info := range infos {
				rows[i] = newPsRow(info, full)
			}
			return psTable.print(a.stdout, format, quiet, rows)
		}
	},
}

func containerFilter(f *container.Filter, s string) error {
	key, v, _ := strings.Cut(s, "=")
	switch key {
	case "status":
		f.Status = append(f.Status, container.Status(v))
	case "name":
		f.Name = append(f.Name, v)
	case "id":
		f.ID = append(f.ID, v)
	case "ancestor":
		f.Image = append(f.Image, v)
	case "volume":
		f.Volume = append(f.Volume, v)
	case "network":
		f.Network = append(f.Network, v)
	case "publish":
		f.Publish = append(f.Publish, v)
	case "label":
		if f.Label == nil {
			f.Label = map[string]string{}
		}
		k, v, _ := strings.Cut(v, "=")
		f.Label[k] = v
	default:
		return fmt.Errorf("unknown filter %q: use status, name, id, label, ancestor, volume, network or publish", key)
	}
	return nil
}

// psRow is a line of ps, with the names that Docker's templates use.
type psRow struct {
	ID, Image, Command, CreatedAt, RunningFor, State, Status, Names string
	Labels, Mounts, Networks, Ports                                 string
}

var psTable = table[psRow]{
	columns: []string{"CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"},
	quiet:   func(r psRow) string { return r.ID },
	cells: func(r psRow) []string {
		return []string{r.ID, r.Image, r.Command, r.RunningFor, r.Status, r.Ports, r.Names}
	},
}

func newPsRow(i *container.Info, full bool) psRow {
	r := psRow{
		ID: i.ID, Image: i.Image, Command: strings.Join(i.Command, " "), Names: i.Name, Networks: i.Network, Ports: portColumn(i),
		CreatedAt: i.Created.Local().Format("2006-01-02 15:04:05 -0700 MST"), RunningFor: age(i.Created),
		State: string(i.Status), Status: status(i),
	}
	if i.Rootfs != "" {
		r.Image = i.Rootfs
	}
	if !full {
		r.ID, r.Command = short(r.ID), cut(r.Command, 20)
		if hex := strings.TrimPrefix(r.Image, "sha256:"); len(hex) == 64 {
			r.Image = short(hex)
		}
		if i.Rootfs != "" && len(r.Image) > 30 {
			r.Image = "…/" + path.Base(r.Image)
		}
	}
	r.Command = strconv.Quote(r.Command)
	for _, k := range slices.Sorted(maps.Keys(i.Labels)) {
		r.Labels += "," + k + "=" + i.Labels[k]
	}
	if len(i.Networks) > 0 {
		r.Networks = ""
	}
	for _, n := range i.Networks {
		r.Networks += "," + n.Network
	}
	for _, v := range i.Volumes {
		r.Mounts += "," + v.Name
	}
	r.Labels, r.Mounts, r.Networks = strings.TrimPrefix(r.Labels, ","), strings.TrimPrefix(r.Mounts, ","), strings.TrimPrefix(r.Networks, ",")
	return r
}

// status is what ps says of a container: "Up 5 minutes", "Exited (0) 2 days ago".
func status(i *container.Info) string {
	ended := func(word string) string {
		if i.Exit == nil {
			return word
		}
		return fmt.Sprintf("%s (%d) %s", word, i.Exit.Code, age(i.Exit.Finished))
	}
	switch i.Status {
	case container.Running:
		up := "Up " + span(time.Since(i.Started))
		if h := i.Health; h != nil && h.Status == container.Starting {
			up += " (health: starting)"
		} else if h != nil {
			up += " (" + string(h.Status) + ")"
		}
		return up
	case container.Paused:
		return "Up " + span(time.Since(i.Started)) + " (Paused)"
	case container.Created:
		return "Created"
	case container.Exited:
		return ended("Exited")
	case container.Restarting:
		return ended("Restarting")
	case container.Removing:
		return "Removal In Progress"
	}
	return "Dead"
}
