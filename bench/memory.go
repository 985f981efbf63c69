package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// footprint is what a process occupies, in KiB.
//
// Private is what would be free without it: all pages that only it has and
// that cannot be read again from a file, so private dirty pages of all
// mappings and private clean ones of anonymous mappings. Every page counts
// once. Pss ("proportional") counts all its pages, those shared with n
// processes as a part of n.
type footprint struct {
	Private, Pss float64
}

// measureProcess reads /proc/PID/smaps, whose mappings tell apart what
// smaps_rollup adds up.
func measureProcess(pid int) (footprint, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return footprint{}, err
	}
	defer f.Close()
	var sum footprint
	anonymous := false
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) >= 5 && strings.Contains(fields[0], "-") { // address perms offset device inode [path]
			anonymous = fields[4] == "0"
			continue
		}
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.ParseFloat(fields[1], 64)
		switch fields[0] {
		case "Pss:":
			sum.Pss += kib
		case "Private_Dirty:":
			sum.Private += kib
		case "Private_Clean:":
			if anonymous {
				sum.Private += kib
			}
		}
	}
	return sum, nil
}

const settle = 2 * time.Second // until what starts has come to rest

const titleMemory = "memory beside each idle container, KiB"

// rowMemory measures what is resident beside the containers' own processes,
// one system after the other: without network, then on a network of the user's,
// where supervisors serve names.
func (b *bench) rowMemory(ctx context.Context) ([]*result, error) {
	counts := []int{1, 10, 100}
	if b.quick {
		counts = []int{1, 5}
	}
	results := []*result{b.memory(ctx, titleMemory, b.systems(b.amphora, b.podman, "none"), counts)}
	n, err := b.networked(ctx)
	if err != nil {
		return results, err
	}
	var undo undo
	defer undo.all()
	tools := []*tool{n.amphora.cli}
	if b.docker != nil {
		tools = append(tools, b.docker.cli)
	}
	if n.podman != nil {
		tools = append(tools, n.podman.cli)
	}
	for _, t := range tools {
		if err := undo.run(ctx, t, []string{"network", "create", netName}, "network", "rm", netName); err != nil {
			return results, err
		}
	}
	named := b.memory(ctx, titleMemory+", on a network with names", b.systems(n.amphora, n.podman, netName), counts)
	named.Notes = []string{"podman's resolver, one process for all containers, is not counted"}
	return append(results, named), nil
}

// memory makes a table of systems.
func (b *bench) memory(ctx context.Context, title string, systems []*system, counts []int) *result {
	r := &result{Title: title, Unit: "KiB", Load: loadAverage(),
		Table: [][]string{{"", "containers", "processes", "private, median", "max", "pss, median", "daemons private", "daemons pss", "private for each, with daemons"}},
		Notes: []string{"private: pages that only this process has and no file holds (private dirty, and private clean of anonymous mappings); the containers' own processes are not counted"}}
	for _, s := range systems {
		if err := b.weigh(ctx, r, s, counts); err != nil {
			r.Notes = append(r.Notes, s.name+" failed: "+err.Error())
		}
		if ctx.Err() != nil {
			break
		}
	}
	return r
}

func (b *bench) weigh(ctx context.Context, r *result, s *system, counts []int) error {
	name := func(i int) string { return fmt.Sprintf("bench-idle-%d", i) }
	have := 0
	defer func() {
		for i := range have {
			s.stop(context.WithoutCancel(ctx), name(i))
		}
		b.reap()
	}()
	for _, count := range counts {
		b.say("memory: %s, %d containers", s.name, count)
		for ; have < count; have++ {
			if err := s.start(ctx, name(have)); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(settle):
		}
		if err := r.weighed(s, count); err != nil {
			return err
		}
	}
	return nil
}

// weighed adds a line to the table, and the samples behind it.
func (r *result) weighed(s *system, count int) error {
	private := series{Name: fmt.Sprintf("%s, %d containers, private", s.name, count), Kind: "memory"}
	pss := series{Name: fmt.Sprintf("%s, %d containers, pss", s.name, count), Kind: "memory"}
	pids := s.each()
	if len(pids) < count {
		return fmt.Errorf("%d processes found for %d containers", len(pids), count)
	}
	all := 0.0
	for _, pid := range pids {
		f, err := measureProcess(pid)
		if err != nil {
			return err
		}
		private.Samples, pss.Samples = append(private.Samples, f.Private), append(pss.Samples, f.Pss)
		all += f.Private
	}
	daemons := []string{"none", "none"}
	if s.daemons != nil {
		var sum footprint
		for _, pid := range s.daemons() {
			f, err := measureProcess(pid)
			if err != nil {
				return err
			}
			sum.Private, sum.Pss = sum.Private+f.Private, sum.Pss+f.Pss
		}
		all += sum.Private
		daemons = []string{fmt.Sprintf("%.0f", sum.Private), fmt.Sprintf("%.0f", sum.Pss)}
	}
	r.Series = append(r.Series, private, pss)
	most := quantile(private.Samples, 1)
	r.Table = append(r.Table, []string{s.name, fmt.Sprint(count), fmt.Sprint(len(pids)), fmt.Sprintf("%.0f", private.median()), fmt.Sprintf("%.0f", most),
		fmt.Sprintf("%.0f", pss.median()), daemons[0], daemons[1], fmt.Sprintf("%.0f", all/float64(count))})
	if s.name == nameShim && count == 100 && r.Title == titleMemory {
		ok := most <= 2.8*1024 && len(pids) == count
		r.Goals = append(r.Goals, line(ok, "2.8 MiB private for each of 100 idle containers", fmt.Sprintf("at most %.2f MiB, %d processes", most/1024, len(pids))))
	}
	return nil
}
