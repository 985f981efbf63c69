package volumes

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/internal/journal"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/testenv"
)

func TestMain(m *testing.M) {
	testenv.Child("do", childDo)
	testenv.Child("contend", childContend)
	testenv.Child("copyup", childCopyUp)
	testenv.Main(m)
}

// open opens a Root of its own below dir.
func open(dir string) (*Store, error) {
	root, err := record.OpenRoot(context.Background(), filepath.Join(dir, "root"), filepath.Join(dir, "state"))
	if err != nil {
		return nil, err
	}
	return Open(root), nil
}

func newStore(t testing.TB) (*Store, string) {
	t.Helper()
	dir := testenv.Dir(t)
	s, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// container records a container that uses volumes, and returns its id.
func container(t testing.TB, s *Store, name string, vols ...string) string {
	t.Helper()
	c := &record.Container{Name: name}
	for _, v := range vols {
		c.Volumes = append(c.Volumes, record.Use{Name: v, Target: "/data"})
	}
	l, err := s.root.Create(t.Context(), c, &record.Config{}, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	l.Release()
	return c.ID
}

// events lists the volume events as "name action".
func events(t testing.TB, s *Store) []string {
	t.Helper()
	var all []string
	for ev, err := range s.root.Log.Read(t.Context(), &journal.ReadOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Type == "volume" {
			all = append(all, ev.ID+" "+ev.Action)
		}
	}
	return all
}

func names(t testing.TB, s *Store) string {
	t.Helper()
	all, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, v := range all {
		out = append(out, v.Name)
	}
	return strings.Join(out, " ")
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// childDo runs one operation on the store of args[0], for kill matrices.
func childDo(args []string) int {
	s, err := open(args[0])
	if err == nil {
		err = do(context.Background(), s, args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func do(ctx context.Context, s *Store, what string) (err error) {
	switch what {
	case "create":
		_, err = s.Create(ctx, &Spec{Name: "data", Labels: map[string]string{"a": "b"}})
	case "ensure":
		var c *Claim
		if c, err = s.Ensure(ctx, &Spec{Name: "data"}); err == nil {
			err = c.Release()
		}
	case "remove":
		err = s.Remove(ctx, "data")
	case "prune":
		_, err = s.Prune(ctx, &PruneOptions{Named: true})
	}
	return err
}

// rewrite changes a volume's record behind the store's back.
func rewrite(t testing.TB, s *Store, name string, change func(map[string]any)) {
	t.Helper()
	file := s.path(name, "record.json")
	var m map[string]any
	if err := json.Unmarshal(must[[]byte](t)(os.ReadFile(file)), &m); err != nil {
		t.Fatal(err)
	}
	change(m)
	data, _ := json.Marshal(m)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
