package container

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/amphora-go/amphora/network"
)

func TestStats(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{Resources: Resources{Memory: 64 << 20, Pids: 50, CPUs: 0.1}}, "cpu")
	for _, err := range (&Container{m: b.Manager, id: c.id}).Stats(t.Context(), &StatsOptions{Once: true}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	var last Stats
	for s, err := range c.Stats(t.Context(), &StatsOptions{Interval: 20 * time.Millisecond}) {
		if err != nil {
			t.Fatal(err)
		}
		if s.ID != c.id || s.CPU.Usage < last.CPU.Usage || s.Memory.Limit != 64<<20 || s.Memory.Usage == 0 || s.Pids.Limit != 50 || s.Pids.Current == 0 {
			t.Errorf("%+v", s)
		}
		if len(s.Networks) != 1 || s.Networks[0].Interface != "eth0" {
			t.Errorf("networks %+v", s.Networks)
		}
		last = s
		if n++; n > 5 && s.CPU.Throttled > 0 && s.CPU.ThrottledTime > 0 {
			break
		}
		if n > 500 {
			t.Fatalf("never throttled: %+v", s)
		}
	}
	// It ends with the container, and with ctx.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, err := range c.Stats(ctx, &StatsOptions{Interval: time.Millisecond}) {
		if err != nil {
			is(t, err, context.Canceled)
		}
		cancel()
	}
	killed := false
	for _, err := range c.Stats(t.Context(), &StatsOptions{Interval: time.Millisecond}) {
		if err != nil {
			t.Fatal(err)
		}
		if !killed {
			killed = true
			c.Signal(t.Context(), "SIGKILL")
		}
	}
	for _, err := range c.Stats(t.Context(), nil) {
		is(t, err, ErrNotRunning)
	}
}

func TestTop(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{Networks: []network.Endpoint{{Network: network.None}}, Process: Process{User: "12345"}}, "sh", "-c", "sleep 1000")
	p, err := c.Top(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(p.Titles, []string{"UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"}) || len(p.Rows) == 0 {
		t.Fatalf("%+v", p)
	}
	if row := p.Rows[0]; row[0] != "12345" || row[1] != strconv.Itoa(inspect(t, c).Pid) || row[5] != "?" {
		t.Errorf("%q", row)
	}
	for _, args := range [][]string{{"aux"}, {"-o", "pid,comm"}, {"-eo", "pid,args"}, {"-eopid,rss,%mem"}} {
		p, err := c.Top(t.Context(), args...)
		if err != nil || len(p.Rows) == 0 || len(p.Titles) != len(p.Rows[0]) {
			t.Errorf("%q: %+v, %v", args, p, err)
		}
	}
	_, err = c.Top(t.Context(), "-o", "nonsense")
	is(t, err, fs.ErrInvalid)
	c.Signal(t.Context(), "SIGKILL")
	wait(t, c)
	if _, err = c.Top(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Error(err)
	}
}
