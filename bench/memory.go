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

// system is one way of having idle containers.
type system struct {
	name    string
	start   func(ctx context.Context, name string) error
	stop    func(ctx context.Context, name string)
	each    func() []int // processes that serve one container each
	daemons func() []int // processes that serve them all; nil: there are none
}

const settle = 2 * time.Second // until what starts has come to rest

// rowMemory measures what is resident beside the containers' own processes,
// one system after the other.
func (b *bench) rowMemory(ctx context.Context) ([]*result, error) {
	counts := []int{1, 10, 100}
	if b.quick {
		counts = []int{1, 5}
	}
	r := &result{Title: "memory beside each idle container, KiB", Unit: "KiB", Load: loadAverage(),
		Table: [][]string{{"", "containers", "processes", "private, median", "max", "pss, median", "daemons private", "daemons pss", "private for each, with daemons"}},
		Notes: []string{"private: pages that only this process has and no file holds (private dirty, and private clean of anonymous mappings); the containers' own processes are not counted"}}
	for _, s := range b.systems() {
		if err := b.weigh(ctx, r, s, counts); err != nil {
			r.Notes = append(r.Notes, s.name+" failed: "+err.Error())
		}
		if ctx.Err() != nil {
			break
		}
	}
	return []*result{r}, nil
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
	if s.name == nameShim && count == 100 {
		ok := most <= 2.8*1024 && len(pids) == count
		r.Goals = append(r.Goals, line(ok, "2.8 MiB private for each of 100 idle containers", fmt.Sprintf("at most %.2f MiB, %d processes", most/1024, len(pids))))
	}
	return nil
}

const nameShim = "amphora"

func (b *bench) systems() []*system {
	list := []*system{b.shims(nameShim, ""), b.shims(nameHelper, b.amphora.helper)}
	if d := b.docker; d != nil {
		list = append(list, &system{name: "docker", each: d.shims, daemons: d.daemons,
			start: func(ctx context.Context, name string) error {
				return d.cli.run(ctx, d.run("-d", "--name", name, d.image, "sleep", "1000000")...)
			},
			stop: func(ctx context.Context, name string) { d.client.remove(ctx, name) }})
	}
	if p := b.podman; p != nil {
		list = append(list, &system{name: "podman", each: p.monitors,
			start: func(ctx context.Context, name string) error {
				return p.cli.run(ctx, p.run("-d", "--name", name, p.image, "sleep", "1000000")...)
			},
			stop: func(ctx context.Context, name string) { p.cli.run(ctx, "rm", "-f", "-t", "0", name) }})
	}
	return list
}

// shims are containers that the library made, whose program has ended since:
// the supervisors alone are left, as children of ours.
func (b *bench) shims(name, helper string) *system {
	a := b.amphora
	own := map[int]bool{}    // first processes of the containers
	before := map[int]bool{} // what was there already: daemons of the peers
	for _, p := range descendants(os.Getpid()) {
		before[p.pid] = true
	}
	ask := func(ctx context.Context, line string) (string, error) {
		w, err := b.work("detach", a.root, a.state, helper, imageName)
		if err != nil {
			return "", err
		}
		defer w.close()
		_, text, err := w.ask(ctx, line)
		return text, err
	}
	return &system{name: name,
		start: func(ctx context.Context, name string) error {
			text, err := ask(ctx, "start "+name+" sleep 1000000")
			if err != nil {
				return err
			}
			pid, err := strconv.Atoi(text)
			own[pid] = true
			return err
		},
		stop: func(ctx context.Context, name string) {
			if _, err := ask(ctx, "remove "+name); err != nil {
				b.note("%s: %v", name, err)
			}
		},
		// Whatever has come since, descends from us and is no container's own
		// process: supervisors, and anything else that stayed.
		each: func() []int {
			var pids []int
			for _, p := range descendants(os.Getpid()) {
				if !p.zombie && !own[p.pid] && !before[p.pid] {
					pids = append(pids, p.pid)
				}
			}
			return pids
		}}
}
