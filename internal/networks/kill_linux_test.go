package networks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/testenv"
)

// TestKilledAnywhere kills each operation at every point it passes; after a
// collection the host has what the Root says, and the operation can be done.
func TestKilledAnywhere(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	for _, op := range []struct {
		name  string
		setup []string // what must have been done
		undo  []string // so that it can be done again
	}{
		{"create", nil, []string{"remove"}},
		{"attach", []string{"create"}, []string{"detach", "remove"}},
		{"detach", []string{"create", "attach"}, []string{"remove"}},
		{"let go", []string{"create", "attach"}, []string{"remove"}},
		{"idle", []string{"create"}, []string{"remove"}},
		{"reload", []string{"create", "attach"}, []string{"detach", "remove"}},
		{"remove", []string{"create"}, nil},
	} {
		t.Run(op.name, func(t *testing.T) {
			all := func(ops []string) {
				t.Helper()
				for _, o := range ops {
					must(t, do(ctx, l.Store, o, l.ns))
				}
			}
			all(op.setup)
			points := testenv.Points(func() { must(t, do(ctx, l.Store, op.name, l.ns)) })
			all(op.undo)
			if len(points) < 2 {
				t.Fatalf("points %v", points)
			}
			seen := map[string]int{}
			for _, p := range points {
				plan := step.Plan{Name: p, At: seen[p], Alone: true}
				seen[p]++
				all(op.setup)
				r := testenv.RunChild(t, "do", plan, l.dir, op.name, l.ns)
				if !r.Killed {
					t.Errorf("%+v: not killed: %d %s", plan, r.Code, r.Stderr)
				}
				l.mended(t, fmt.Sprintf("%s killed at %s %d", op.name, p, plan.At))
			}
		})
	}
}

// mended collects and looks whether records and host agree, then brings the lab
// back to where it has no network.
func (l *lab) mended(t *testing.T, when string) {
	t.Helper()
	ctx := context.Background()
	must(t, l.GC(ctx))
	attached, err := l.Attached("one")
	must(t, err)
	for _, a := range attached { // its namespace lives: it stays attached, wholly
		n, err := l.Get(ctx, a.Network)
		must(t, err)
		if err := l.Reload(ctx); err != nil {
			t.Errorf("%s: reload: %v", when, err)
		}
		if err := l.cni().Check(ctx, mustRequest(t, l, n, a)); err != nil {
			t.Logf("%s: half detached: %v", when, err)
		}
		if err := l.Detach(ctx, a, l.ns); err != nil {
			t.Errorf("%s: detach: %v", when, err)
		}
	}
	_, err = l.Get(ctx, "app")
	if errors.Is(err, fs.ErrNotExist) {
		l.nothing(t, when, 0)
		return
	}
	must(t, err)
	if got := len(l.bridges(t)); got > 1 {
		t.Errorf("%s: %d bridges", when, got)
	}
	l.nothing(t, when, len(l.bridges(t)))
	if err := do(ctx, l.Store, "attach", l.ns); err != nil {
		t.Errorf("%s: attach: %v", when, err)
	}
	must(t, do(ctx, l.Store, "detach", l.ns))
	must(t, do(ctx, l.Store, "remove", l.ns))
	l.nothing(t, when+", removed", 0)
}
