package container

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/network"
	"github.com/amphora-go/amphora/volume"
)

func TestGetAndList(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	one := b.create(t, Spec{Name: "one", Labels: map[string]string{"tier": "web", "x": ""}, Networks: []network.Endpoint{{Network: network.None}}}, "pause")
	two := b.start(t, Spec{Name: "two-2", Labels: map[string]string{"tier": "db"},
		Mounts: []volume.Mount{{Type: volume.Named, Source: "pgdata", Target: "/data"}}, Ports: []network.Port{{Container: 80}}}, "pause")
	three := b.create(t, Spec{}, "pause")
	name := inspect(t, three).Name
	if err := record.CheckName(name); err != nil || !strings.Contains(name, "_") {
		t.Errorf("made-up name %q: %v", name, err)
	}
	for _, ref := range []string{"one", one.ID(), one.ID()[:12], one.ID()[:20]} {
		if got, err := b.Get(ctx, ref); err != nil || got.ID() != one.ID() {
			t.Errorf("get %q: %v", ref, err)
		}
	}
	for _, ref := range []string{"nosuch", "One", strings.Repeat("0", 64), "../one", "one/", "ffffffffffffffffff"} {
		_, err := b.Get(ctx, ref)
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("get %q: %v", ref, err)
		}
	}
	_, err := b.Get(ctx, "")
	is(t, err, fs.ErrInvalid)

	id := inspect(t, one).ImageID
	bridge, err := b.networks.Get(ctx, network.Bridge)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		f    *Filter
		want []*Container
	}{
		{"all, the newest first", nil, []*Container{three, two, one}},
		{"status", &Filter{Status: []Status{Running}}, []*Container{two}},
		{"one of several", &Filter{Status: []Status{Running, Created}}, []*Container{three, two, one}},
		{"part of the name", &Filter{Name: []string{"wo"}}, []*Container{two}},
		{"pattern of the name", &Filter{Name: []string{"o?e"}}, []*Container{one}},
		{"id", &Filter{ID: []string{two.ID()[:8]}}, []*Container{two}},
		{"label", &Filter{Label: map[string]string{"tier": ""}}, []*Container{two, one}},
		{"label and value", &Filter{Label: map[string]string{"tier": "web"}}, []*Container{one}},
		{"both", &Filter{Label: map[string]string{"tier": "web"}, Status: []Status{Running}}, nil},
		{"image", &Filter{Image: []string{"box"}}, []*Container{three, two, one}},
		{"image id", &Filter{Image: []string{id[:20]}}, []*Container{three, two, one}},
		{"another image", &Filter{Image: []string{"nosuch"}}, nil},
		{"volume", &Filter{Volume: []string{"pgdata"}}, []*Container{two}},
		{"target of a volume", &Filter{Volume: []string{"/data"}}, []*Container{two}},
		{"network, running or not", &Filter{Network: []string{network.Bridge}}, []*Container{three, two}},
		{"no network", &Filter{Network: []string{network.None}}, []*Container{one}},
		{"one of several networks, by id", &Filter{Network: []string{"nosuch", bridge.ID[:12]}}, []*Container{three, two}},
		{"published", &Filter{Publish: []string{"70-80"}}, []*Container{two}},
		{"published with another protocol", &Filter{Publish: []string{"80/udp"}}, nil},
	} {
		infos, err := b.List(ctx, tt.f)
		var got, want []string
		for _, i := range infos {
			got = append(got, i.Name)
		}
		for _, c := range tt.want {
			want = append(want, inspect(t, c).Name)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", tt.name, got, err, want)
		}
	}
}

func TestRename(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	one, two := b.create(t, Spec{Name: "one"}, "pause"), b.create(t, Spec{Name: "two"}, "pause")
	err := one.Rename(ctx, "two")
	is(t, err, fs.ErrExist)
	says(t, err, "two", two.ID()[:12])
	is(t, one.Rename(ctx, "a b"), fs.ErrInvalid)
	is(t, one.Rename(ctx, "one"), fs.ErrInvalid)
	if err := one.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := one.Rename(ctx, "three"); err != nil { // while it runs
		t.Fatal(err)
	}
	if _, err := b.Get(ctx, "one"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old name: %v", err)
	}
	if c, err := b.Get(ctx, "three"); err != nil || c.ID() != one.ID() {
		t.Errorf("the new name: %v", err)
	}
	again := b.create(t, Spec{Name: "one"}, "pause") // free again
	_ = again
	if err := one.Stop(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if info := inspect(t, one); info.Name != "three" || info.Status != Exited {
		t.Errorf("%+v", info)
	}
}

// Renames and pauses write the same container's files from two processes.
func TestRenameMeetsPause(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{Name: "name-0"}, "pause")
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 30 {
			if err := c.Rename(t.Context(), fmt.Sprintf("name-%d", i+1)); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Go(func() {
		for range 15 {
			if err := errors.Join(c.Pause(t.Context()), c.Resume(t.Context())); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	if info := inspect(t, c); info.Name != "name-30" || info.Status != Running {
		t.Errorf("%+v", info)
	}
}

func TestNameIsTakenOnce(t *testing.T) {
	b := newBench(t)
	var mu sync.Mutex
	var winner *Container
	var lost []error
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			c, err := b.try(t, Spec{Name: "only"}, "pause")
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				lost = append(lost, err)
				return
			}
			if winner != nil {
				t.Error("two containers have one name")
			}
			winner = c
		})
	}
	wg.Wait()
	if winner == nil {
		t.Fatal("nobody got the name")
	}
	for _, err := range lost {
		is(t, err, fs.ErrExist)
		says(t, err, "only", winner.ID()[:12])
	}
	if infos, err := b.List(t.Context(), nil); err != nil || len(infos) != 1 {
		t.Errorf("%d containers, %v", len(infos), err)
	}
	// Removal frees it.
	if err := winner.Remove(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	b.create(t, Spec{Name: "only"}, "pause")
}

func TestWaitConditions(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	c := b.start(t, Spec{}, "trap", "-x", "7")
	eventually(t, "ready", func() bool { return strings.Contains(logText(t, c), "ready") })
	type result struct {
		exit *Exit
		err  error
	}
	results := make(map[Until]chan result)
	for _, cond := range []Until{NotRunning, NextExit, Gone} {
		ch := make(chan result, 1)
		results[cond] = ch
		go func() {
			exit, err := c.Wait(ctx, cond)
			ch <- result{exit, err}
		}()
	}
	_, err := c.Wait(ctx, "nonsense")
	is(t, err, fs.ErrInvalid)
	// NextExit counts from its call: it must be under way.
	eventually(t, "all wait", func() bool { return inspect(t, c).Status == Running })
	next := make(chan result, 1)
	if err := c.Stop(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if r := <-results[NotRunning]; r.err != nil || r.exit.Code != 7 {
		t.Errorf("not running: %+v, %v", r.exit, r.err)
	}
	go func() {
		exit, err := c.Wait(ctx, NextExit)
		next <- result{exit, err}
	}()
	select {
	case r := <-results[Gone]:
		t.Errorf("gone before the removal: %+v", r)
	default:
	}
	// Until the last wait is under way, one more end does no harm.
	for done := false; !done; {
		if err := c.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if err := c.Signal(ctx, "KILL"); err != nil {
			t.Fatal(err)
		}
		wait(t, c)
		select {
		case r := <-next:
			done = true
			if r.err != nil || r.exit.Code != 137 {
				t.Errorf("next exit: %+v, %v", r.exit, r.err)
			}
		default:
		}
	}
	if r := <-results[NextExit]; r.err != nil || r.exit.Code != 7 && r.exit.Code != 137 {
		t.Errorf("next exit: %+v, %v", r.exit, r.err)
	}
	if err := c.Remove(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if r := <-results[Gone]; r.err != nil || r.exit.Code != 137 {
		t.Errorf("gone: %+v, %v", r.exit, r.err)
	}
}
