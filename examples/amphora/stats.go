package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/amphora-go/amphora/container"
)

var statsCommand = command{
	name: "stats", args: "[CONTAINER...]", summary: "Display a live stream of container(s) resource usage statistics",
	max: -1,
	setup: func(f *flags) action {
		var o statsOptions
		f.bool(&o.all, "a,all", "Show all containers (default shows just running)")
		f.text(&o.format, "format", "Print json, or by a `template` such as '{{.CPUPerc}}'")
		f.bool(&o.once, "no-stream", "Disable streaming stats and only pull the first result")
		f.bool(&o.full, "no-trunc", "Do not truncate output")
		return o.show
	},
}

type statsOptions struct {
	all, once, full bool
	format          string
}

// statsRow has Docker's names.
type statsRow struct {
	Container, ID, Name, CPUPerc, MemUsage, MemPerc, NetIO, BlockIO, PIDs string
}

var statsTable = table[statsRow]{
	columns: []string{"CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"},
	cells: func(r statsRow) []string {
		return []string{r.ID, r.Name, r.CPUPerc, r.MemUsage, r.MemPerc, r.NetIO, r.BlockIO, r.PIDs}
	},
}

// show prints a table, and again every second.
func (o *statsOptions) show(ctx context.Context, a *app, args []string) error {
	seen := map[string]container.Stats{}
	pause := 50 * time.Millisecond // the use of processors is a difference
	for round := 0; ; round++ {
		list, err := o.containers(ctx, a, args)
		if err != nil {
			return err
		}
		rows, err := o.sample(ctx, list, seen)
		if err != nil {
			return err
		}
		if round > 0 || len(list) == 0 && o.once {
			var out bytes.Buffer
			if err := statsTable.print(&out, o.format, false, rows); err != nil {
				return err
			}
			if !o.once && o.format == "" {
				fmt.Fprint(a.stdout, "\033[H\033[2J")
			}
			if _, err := a.stdout.Write(out.Bytes()); err != nil || o.once {
				return err
			}
			pause = time.Second
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

func (o *statsOptions) containers(ctx context.Context, a *app, args []string) ([]*container.Container, error) {
	var list []*container.Container
	for _, name := range args {
		c, err := a.container(ctx, name)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	if len(args) > 0 {
		return list, nil
	}
	eng, err := a.engine(ctx)
	if err != nil {
		return nil, err
	}
	filter := &container.Filter{Status: []container.Status{container.Running, container.Paused}}
	if o.all {
		filter = nil
	}
	infos, err := eng.Containers().List(ctx, filter)
	for _, i := range infos {
		c, err := eng.Containers().Get(ctx, i.ID)
		if err == nil {
			list = append(list, c)
		}
	}
	return list, err
}

// sample reads all containers side by side.
func (o *statsOptions) sample(ctx context.Context, list []*container.Container, seen map[string]container.Stats) ([]statsRow, error) {
	now := make([]container.Stats, len(list))
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, c := range list {
		wg.Go(func() {
			for s, err := range c.Stats(ctx, &container.StatsOptions{Once: true}) {
				now[i], errs[i] = s, err
			}
		})
	}
	wg.Wait()
	var rows []statsRow
	for i, c := range list {
		switch err := errs[i]; {
		case errors.Is(err, container.ErrNotRunning):
			now[i].ID = c.ID()
			if info, err := c.Inspect(ctx); err == nil {
				now[i].Name = info.Name
			}
		case errors.Is(err, fs.ErrNotExist):
			continue // it was removed
		case err != nil:
			return nil, err
		}
		s := now[i]
		if last, ok := seen[s.ID]; ok && s.CPU.Usage >= last.CPU.Usage {
			s.CPU.Percent = float64(s.CPU.Usage-last.CPU.Usage) / float64(max(s.Time.Sub(last.Time), 1)) * 100
		}
		seen[s.ID] = s
		rows = append(rows, o.row(&s))
	}
	return rows, nil
}

func (o *statsOptions) row(s *container.Stats) statsRow {
	r := statsRow{Container: s.ID, ID: s.ID, Name: s.Name, PIDs: fmt.Sprint(s.Pids.Current),
		CPUPerc: fmt.Sprintf("%.2f%%", s.CPU.Percent), MemPerc: fmt.Sprintf("%.2f%%", s.Memory.Percent()),
		MemUsage: binarySize(s.Memory.Usage) + " / " + binarySize(s.Memory.Limit),
		BlockIO:  size(int64(s.Block.ReadBytes)) + " / " + size(int64(s.Block.WriteBytes))}
	if !o.full {
		r.Container, r.ID = short(s.ID), short(s.ID)
	}
	var rx, tx uint64
	for _, n := range s.Networks {
		rx, tx = rx+n.RxBytes, tx+n.TxBytes
	}
	r.NetIO = size(int64(rx)) + " / " + size(int64(tx))
	return r
}

// binarySize is a number of bytes as Docker shows memory: four digits, powers
// of 1024.
func binarySize(n uint64) string {
	f, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for len(units) > 1 && f >= 1024 {
		f, units = f/1024, units[1:]
	}
	return fmt.Sprintf("%.4g%s", f, units[0])
}

var topCommand = command{
	name: "top", args: "CONTAINER [ps OPTIONS]", summary: "Display the running processes of a container",
	min: 1, max: -1, foreign: true,
	setup: func(f *flags) action {
		return func(ctx context.Context, a *app, args []string) error {
			c, err := a.container(ctx, args[0])
			if err != nil {
				return err
			}
			p, err := c.Top(ctx, args[1:]...)
			if err != nil {
				return err
			}
			t := table[[]string]{columns: p.Titles, cells: func(row []string) []string { return row }}
			return t.print(a.stdout, "", false, p.Rows)
		}
	},
}
