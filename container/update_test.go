package container

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/amphora-go/amphora/internal/cgroup"
	"github.com/amphora-go/amphora/internal/journal"
)

// inForce reads what the kernel has, in the files of cgroup v1 and v2.
func inForce(t *testing.T, c *Container) string {
	t.Helper()
	rec, err := c.m.root.Load(c.id)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, files := range []string{"memory.limit_in_bytes memory.max", "pids.max", "cpu.cfs_quota_us cpu.max", "cpu.shares cpu.weight"} {
		for _, f := range strings.Fields(files) {
			if v, err := cgroup.Read(rec.Cgroup, f); err == nil {
				out = append(out, strings.Fields(v)[0])
			}
		}
	}
	return strings.Join(out, " ")
}

func TestUpdate(t *testing.T) {
	b := newBench(t)
	mark, err := b.root.Log.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := b.create(t, Spec{Resources: Resources{Memory: 64 << 20, Pids: 50}}, "pause")
	// At rest, then running.
	o := &UpdateOptions{Memory: ptr(int64(96 << 20)), CPUs: ptr(0.5), Restart: &Restart{Policy: "on-failure", MaxRetries: 3}}
	if err := c.Update(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	shares := "1024"
	if cgroup.Unified() {
		shares = "100"
	}
	if got, want := inForce(t, c), fmt.Sprintf("%d 50 50000 %s", 96<<20, shares); got != want {
		t.Fatalf("in force: %s, want %s", got, want)
	}
	for _, memory := range []int64{256 << 20, 48 << 20} { // up and down: memory and swap depend on each other
		if err := c.Update(t.Context(), &UpdateOptions{Memory: &memory, Pids: ptr(int64(-1)), Restart: &Restart{Policy: "always"}}); err != nil {
			t.Fatal(err)
		}
		if got, want := inForce(t, c), fmt.Sprintf("%d max 50000 %s", memory, shares); got != want {
			t.Errorf("in force: %s, want %s", got, want)
		}
	}
	i := inspect(t, c)
	if r := i.Spec.Resources; r.Memory != 48<<20 || r.CPUs != 0.5 || r.Pids != -1 || i.Spec.Restart.Policy != "always" {
		t.Errorf("%+v", i.Spec)
	}
	before := inForce(t, c)
	for _, bad := range []*UpdateOptions{nil, {}, {Memory: ptr(int64(1))}, {Memory: ptr(int64(-1))}, {CPUs: ptr(1e6)}, {CPUShares: ptr(uint64(1))},
		{CPUSet: ptr("999")}, {Pids: ptr(int64(-2))}, {BlkioWeight: ptr(uint16(5))}, {Restart: &Restart{Policy: "sometimes"}}, {MemorySwap: ptr(int64(1 << 20))}} {
		is(t, c.Update(t.Context(), bad), fs.ErrInvalid)
	}
	// What the kernel has not takes back what was written before.
	if err := c.Update(t.Context(), &UpdateOptions{Memory: ptr(int64(200 << 20)), BlkioWeight: ptr(uint16(500))}); err != nil {
		if got := inForce(t, c); got != before {
			t.Errorf("after %v: %s, was %s", err, got, before)
		}
		if r := inspect(t, c).Spec.Resources; r.Memory != 48<<20 || r.BlkioWeight != 0 {
			t.Errorf("recorded after %v: %+v", err, r)
		}
	}
	var n int
	for ev, err := range b.root.Log.Read(t.Context(), &journal.ReadOptions{Since: mark}) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Type == "container" && ev.Action == "update" {
			n++
		}
	}
	if n < 3 {
		t.Errorf("%d events", n)
	}
	// The policy of now counts: "always" would start it again.
	if err := c.Update(t.Context(), &UpdateOptions{Restart: &Restart{Policy: "no"}}); err != nil {
		t.Fatal(err)
	}
	if execOutput(t, c, "echo", "x"); inspect(t, c).Status != Running {
		t.Error("it does not run")
	}
	if err := c.Restart(t.Context(), &StopOptions{Signal: "SIGKILL"}); err != nil {
		t.Fatal(err)
	}
	if got := inForce(t, c); !strings.HasPrefix(got, fmt.Sprint(inspect(t, c).Spec.Resources.Memory)) {
		t.Errorf("after a restart: %s", got)
	}
}

// A limit below what is in use is refused, and changes nothing.
func TestUpdateBelowUse(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{Resources: Resources{Memory: 256 << 20}}, "memhog", "100m", "1000")
	var used uint64
	for s, err := range c.Stats(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		if used = s.Memory.Usage; used > 50<<20 {
			break
		}
	}
	err := c.Update(t.Context(), &UpdateOptions{Memory: ptr(int64(8 << 20))})
	if err == nil {
		t.Error("no error")
	}
	if got := inForce(t, c); !strings.HasPrefix(got, fmt.Sprint(256<<20)) {
		t.Errorf("in force: %s after %v", got, err)
	}
}

// Updates from all sides, starts and stops do not lose each other.
func TestUpdateTogether(t *testing.T) {
	b := newBench(t)
	c := b.create(t, Spec{}, "pause")
	var wg sync.WaitGroup
	for _, o := range []*UpdateOptions{{Memory: ptr(int64(64 << 20))}, {Pids: ptr(int64(100))}, {CPUs: ptr(0.5)}, {CPUShares: ptr(uint64(512))}} {
		wg.Go(func() {
			if err := c.Update(t.Context(), o); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Go(func() {
		if err := c.Start(t.Context()); err != nil && !errors.Is(err, ErrRunning) {
			t.Error(err)
		}
	})
	wg.Wait()
	if r := inspect(t, c).Spec.Resources; r.Memory != 64<<20 || r.Pids != 100 || r.CPUs != 0.5 || r.CPUShares != 512 {
		t.Errorf("%+v", r)
	}
	if got := inForce(t, c); !strings.HasPrefix(got, fmt.Sprintf("%d 100 50000 ", 64<<20)) {
		t.Errorf("in force: %s", got)
	}
}
