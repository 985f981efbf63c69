package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/testenv"
)

// contend claims the volume, checks that it stays, and in every other round
// writes a container's record that uses it before it gives the claim up, as a
// creation does; the rest of the rounds removes or prunes.
func contend(ctx context.Context, s *Store, who string, rounds int) error {
	for i := range rounds {
		if i%3 == 2 {
			err := s.Remove(ctx, "shared")
			if err != nil && !errors.Is(err, fault.ErrInUse) && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove: %w", err)
			}
			if _, err := s.Prune(ctx, &PruneOptions{Named: true}); err != nil {
				return fmt.Errorf("prune: %w", err)
			}
			if _, err := s.List(ctx); err != nil {
				return fmt.Errorf("list: %w", err)
			}
			continue
		}
		if err := claimOnce(ctx, s, fmt.Sprint(who, "-", i), i%3 == 1); err != nil {
			return err
		}
	}
	return nil
}

func claimOnce(ctx context.Context, s *Store, mark string, withContainer bool) error {
	c, err := s.Ensure(ctx, &Spec{Name: "shared"})
	if err != nil {
		return fmt.Errorf("ensure: %w", err)
	}
	defer c.Release()
	file := filepath.Join(c.Source(), mark)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return fmt.Errorf("claimed volume cannot be written: %w", err)
	}
	if withContainer {
		rec := &record.Container{Name: mark, Volumes: []record.Use{{Name: "shared"}}}
		l, err := s.root.Create(ctx, rec, &record.Config{}, []byte("{}"))
		if err != nil {
			return err
		}
		c.Release()
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("a used volume was removed: %w", err)
		}
		empty, err := s.root.Remove(ctx, rec)
		if err != nil {
			return err
		}
		l.Release()
		return empty()
	}
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("a claimed volume was removed: %w", err)
	}
	return nil
}

func childContend(args []string) int {
	s, err := open(args[0])
	if err == nil {
		rounds, _ := strconv.Atoi(args[2])
		err = contend(context.Background(), s, args[1], rounds)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func TestEnsureAgainstRemove(t *testing.T) {
	s, dir := newStore(t)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			if err := contend(t.Context(), s, fmt.Sprint("go", g), 12); err != nil {
				t.Error(err)
			}
		})
	}
	for p := range 3 {
		wg.Go(func() {
			if r := testenv.RunChild(t, "contend", step.Plan{}, dir, fmt.Sprint("proc", p), "12"); r.Code != 0 {
				t.Errorf("process %d: %s%s", p, r.Stdout, r.Stderr)
			}
		})
	}
	wg.Wait()
	consistent(t, s)
}

func TestOnlyOneCreates(t *testing.T) {
	s, _ := newStore(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for range 16 {
		wg.Go(func() {
			_, err := s.Create(t.Context(), &Spec{Name: "db"})
			if err == nil {
				mu.Lock()
				made++
				mu.Unlock()
			} else if !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made != 1 || !slices.Equal(events(t, s), []string{"db create"}) {
		t.Errorf("%d made it, events %v", made, events(t, s))
	}
}

// consistent checks that the log tells what is there, each create and destroy
// once and in turn, and that nothing half-made is left after a list.
func consistent(t *testing.T, s *Store) {
	t.Helper()
	listed := strings.Fields(names(t, s))
	var there []string
	for _, e := range events(t, s) {
		name, action, _ := strings.Cut(e, " ")
		has := slices.Contains(there, name)
		switch {
		case action == "create" && !has:
			there = append(there, name)
		case action == "destroy" && has:
			there = slices.DeleteFunc(there, func(n string) bool { return n == name })
		default:
			t.Errorf("%s after which %q are there", e, there)
		}
	}
	slices.Sort(there)
	if !slices.Equal(there, listed) {
		t.Errorf("the log says that %q are there, the list %q", there, listed)
	}
	entries, _ := os.ReadDir(s.dir())
	if len(entries) != len(listed) {
		t.Errorf("on disk %v, listed %v", entries, listed)
	}
}

func TestKilledAtEveryPoint(t *testing.T) {
	for _, c := range []struct {
		what  string
		setup bool // the volume is there before
	}{{"create", false}, {"ensure", false}, {"remove", true}, {"prune", true}} {
		prepare := func(t *testing.T) (*Store, string) {
			s, dir := newStore(t)
			if c.setup {
				must[*Volume](t)(s.Create(t.Context(), &Spec{Name: "data"}))
				if err := os.WriteFile(filepath.Join(s.Path("data"), "f"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			return s, dir
		}
		s, _ := prepare(t)
		points := testenv.Points(func() {
			if err := do(t.Context(), s, c.what); err != nil {
				t.Error(err)
			}
		})
		if len(points) < 5 {
			t.Fatalf("%s passes only %v", c.what, points)
		}
		for i, point := range points {
			at := 0
			for _, p := range points[:i] {
				if p == point {
					at++
				}
			}
			t.Run(fmt.Sprintf("%s/%s-%d", c.what, point, at), func(t *testing.T) {
				s, dir := prepare(t)
				if r := testenv.RunChild(t, "do", step.Plan{Name: point, At: at}, dir, c.what); !r.Killed {
					t.Fatalf("the child was not killed: %+v", r)
				}
				// Whoever comes first mends: a list, a get, or a creation.
				switch i % 3 {
				case 0:
					names(t, s)
				case 1:
					if _, err := s.Get(t.Context(), "data"); err != nil && !errors.Is(err, fs.ErrNotExist) {
						t.Error(err)
					}
				case 2:
					must[*Claim](t)(s.Ensure(t.Context(), &Spec{Name: "data"})).Release()
				}
				consistent(t, s)
				must[*Claim](t)(s.Ensure(t.Context(), &Spec{Name: "data"})).Release()
				if err := s.Remove(t.Context(), "data"); err != nil {
					t.Error(err)
				}
				consistent(t, s)
				if left, _ := os.ReadDir(filepath.Join(s.root.Dir, "trash")); len(left) > 0 {
					t.Errorf("trash: %v", left)
				}
			})
		}
	}
}

// What somebody works on is left to him.
func TestListMendsNothingOfOthers(t *testing.T) {
	s, _ := newStore(t)
	l, err := s.lock(t.Context(), "half", true)
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, s); got != "" {
		t.Errorf("listed: %s", got)
	}
	if _, err := os.Stat(s.path("half")); err != nil {
		t.Errorf("a volume being made was taken away: %v", err)
	}
	l.Release()
	names(t, s)
	if _, err := os.Stat(s.path("half")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a killed creator left is still there: %v", err)
	}
}
