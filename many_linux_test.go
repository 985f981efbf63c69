package amphora_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/container"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/testenv"
)

// crowdChild lives whole lives of containers, several at once.
func crowdChild(args []string) int {
	ctx := context.Background()
	eng, err := amphora.Open(ctx, &amphora.Options{Root: args[0], State: args[1]})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer eng.Close()
	const containers, atOnce = 10, 3
	errs := make([]error, containers)
	var wg sync.WaitGroup
	for w := range atOnce {
		wg.Go(func() {
			for i := w; i < containers; i += atOnce {
				errs[i] = oneLife(ctx, eng, fmt.Sprintf("p%d-%d", os.Getpid(), i))
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func oneLife(ctx context.Context, eng *amphora.Engine, name string) error {
	c, err := eng.Containers().Create(ctx, sleeper(name), nil)
	if err != nil {
		return err
	}
	if err := c.Start(ctx); err != nil {
		return err
	}
	out, err := c.Command(ctx, "echo", name).Output()
	if err != nil || strings.TrimSpace(string(out)) != name {
		return fmt.Errorf("exec in %s: %q, %w", name, out, err)
	}
	if _, err := eng.Containers().List(ctx, nil); err != nil {
		return err
	}
	if _, err := eng.Recover(ctx); err != nil {
		return err
	}
	return c.Remove(ctx, &container.RemoveOptions{Force: true})
}

func TestManyProcessesShareARoot(t *testing.T) {
	s := newStore(t)
	eng := s.open(t)
	since := newest(t, eng)
	stop := follow(t, eng)
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if r := testenv.RunChild(t, "crowd", step.Plan{}, s.opts.Root, s.opts.State); r.Code != 0 {
				t.Errorf("exit code %d: %s", r.Code, r.Stderr)
			}
		})
	}
	wg.Wait()
	last := newest(t, eng)
	if last != since+5*10*6 { // create, connect, start, disconnect, die, destroy
		t.Errorf("%d events, want %d", last-since, 5*10*6)
	}
	got := stop(last)
	for i := 1; i < len(got); i++ {
		if got[i].Seq != got[i-1].Seq+1 {
			t.Errorf("event %d follows %d", got[i].Seq, got[i-1].Seq)
		}
	}
	s.truth(t, "all are gone")
}

// One name, many who want it: one gets it, and the others are told who.
func TestOneNameForOne(t *testing.T) {
	s := newStore(t)
	const want = 8
	var wg sync.WaitGroup
	errs := make([]error, want)
	for i := range want {
		eng := s.open(t)
		wg.Go(func() { _, errs[i] = eng.Containers().Create(t.Context(), sleeper("wanted"), nil) })
	}
	wg.Wait()
	got := 0
	for _, err := range errs {
		switch {
		case err == nil:
			got++
		case !errors.Is(err, os.ErrExist):
			t.Error(err)
		}
	}
	if got != 1 {
		t.Errorf("%d got the name", got)
	}
	s.truth(t, "one has it")
}

// Of many who start one container, one does; all others find it running.
func TestOneStartOfMany(t *testing.T) {
	s := newStore(t)
	create(t, s.open(t), sleeper("one"), nil)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		c, err := s.open(t).Containers().Get(t.Context(), "one")
		must(t, err)
		wg.Go(func() { errs[i] = c.Start(t.Context()) })
	}
	wg.Wait()
	n := 0
	for _, err := range errs {
		if err == nil {
			n++
		} else if !errors.Is(err, container.ErrRunning) {
			t.Error(err)
		}
	}
	if n != 1 {
		t.Errorf("%d starts succeeded", n)
	}
	s.truth(t, "started")
}

func TestSeveralRoots(t *testing.T) {
	one, two := newStore(t), newStore(t)
	for _, s := range []*store{one, two} {
		started(t, s.open(t), sleeper("same"))
	}
	c, err := one.open(t).Containers().Get(t.Context(), "same")
	must(t, err)
	must(t, c.Remove(t.Context(), &container.RemoveOptions{Force: true}))
	one.truth(t, "removed here")
	two.truth(t, "not there")
	c, err = two.open(t).Containers().Get(t.Context(), "same")
	must(t, err)
	must(t, c.Command(t.Context(), "true").Run())
}

// An AF_UNIX address ends at 107 bytes; directories do not.
func TestLongPaths(t *testing.T) {
	testenv.Root(t)
	s := emptyStore(t)
	long := strings.Repeat("long-", 30)
	s.opts.Root, s.opts.State = filepath.Join(s.dir, long, "root"), filepath.Join(s.dir, long, "state")
	rootfs := testenv.Rootfs(t)
	eng := s.open(t)
	t.Cleanup(func() { s.clear(t) })
	spec := sleeper("far")
	spec.Image, spec.Rootfs = "", rootfs
	c := started(t, eng, spec)
	var out bytes.Buffer
	x := c.Command(t.Context(), "echo", "near")
	x.Stdout = &out
	must(t, x.Run())
	if out.String() != "near\n" {
		t.Errorf("%q", out.String())
	}
	must(t, stopBox(c, t.Context()))
	s.truth(t, "stopped")
}
