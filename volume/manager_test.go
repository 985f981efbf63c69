package volume

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func newManager(t *testing.T) (*Manager, *record.Root) {
	t.Helper()
	dir := testenv.Dir(t)
	root, err := record.OpenRoot(t.Context(), filepath.Join(dir, "root"), filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := Open(t.Context(), &Options{Root: root.Dir, State: root.State})
	if err != nil {
		t.Fatal(err)
	}
	return m, root
}

func create(t *testing.T, m *Manager, spec *Spec) *Volume {
	t.Helper()
	v, err := m.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func use(t *testing.T, root *record.Root, volume string) string {
	t.Helper()
	c := &record.Container{Name: "user-of-" + volume, Volumes: []record.Use{{Name: volume, Target: "/x"}}}
	l, err := root.Create(t.Context(), c, &record.Config{}, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	l.Release()
	return c.ID
}

func TestManager(t *testing.T) {
	m, root := newManager(t)
	ctx := t.Context()
	db := create(t, m, &Spec{Name: "db", Labels: map[string]string{"tier": "data"}})
	anon := create(t, m, nil)
	if _, err := m.Create(ctx, &Spec{Name: "db"}); !errors.Is(err, fs.ErrExist) || !strings.HasPrefix(err.Error(), "volume create db: ") {
		t.Errorf("second create: %v", err)
	}
	if v, created, err := m.Ensure(ctx, &Spec{Name: "db"}); err != nil || created || v.Name() != "db" {
		t.Errorf("ensure: %v, %v", created, err)
	}
	if v, created, err := m.Ensure(ctx, nil); err != nil || !created || v.Remove(ctx) != nil {
		t.Errorf("ensure of an anonymous one: %v, %v", created, err)
	}
	id := use(t, root, "db")
	info, err := db.Inspect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if info.Driver != "local" || info.Labels["tier"] != "data" || !slices.Equal(info.Containers, []string{id}) || info.Anonymous {
		t.Errorf("info %+v", info)
	}
	if st, err := os.Stat(info.Source); err != nil || !st.IsDir() {
		t.Errorf("source: %v", err)
	}
	if err := os.WriteFile(filepath.Join(info.Source, "f"), make([]byte, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := db.Size(ctx); n != 100 || err != nil {
		t.Errorf("size %d, %v", n, err)
	}
	u, err := m.Usage(ctx)
	if err != nil || len(u.Volumes) != 2 || u.Bytes != 100 || u.Dangling != 0 {
		t.Errorf("usage %+v, %v", u, err)
	}
	if err := db.Remove(ctx); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "volume remove db: in use by container user-of-db") {
		t.Errorf("remove: %v", err)
	}
	if err := anon.Remove(ctx); err != nil {
		t.Error(err)
	}
	var e *Error
	if _, err := m.Get(ctx, "nope"); !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &e) || e.Op != "volume get" || e.Name != "nope" {
		t.Errorf("get: %v", err)
	}
	if err := m.Remove(ctx, "nope"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("remove: %v", err)
	}
	if _, err := anon.Inspect(ctx); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("inspect of a removed one: %v", err)
	}
}

func TestFilters(t *testing.T) {
	m, root := newManager(t)
	create(t, m, &Spec{Name: "db-data", Labels: map[string]string{"app": "shop", "keep": ""}})
	create(t, m, &Spec{Name: "web-data", Labels: map[string]string{"app": "blog"}})
	create(t, m, &Spec{Name: "cache", Anonymous: true})
	use(t, root, "web-data")
	yes, no := true, false
	for _, c := range []struct {
		filter *Filter
		want   string
	}{
		{nil, "cache db-data web-data"},
		{&Filter{}, "cache db-data web-data"},
		{&Filter{Names: []string{"data"}}, "db-data web-data"},
		{&Filter{Names: []string{"cach", "db"}}, "cache db-data"},
		{&Filter{Labels: []string{"app"}}, "db-data web-data"},
		{&Filter{Labels: []string{"app=shop", "keep"}}, "db-data"},
		{&Filter{Labels: []string{"app="}}, ""},
		{&Filter{Without: []string{"app=shop"}}, "cache web-data"},
		{&Filter{Drivers: []string{"nfs"}}, ""},
		{&Filter{Dangling: &yes}, "cache db-data"},
		{&Filter{Dangling: &no}, "web-data"},
	} {
		infos, err := m.List(t.Context(), c.filter)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, i := range infos {
			got = append(got, i.Name)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v: %v, want %s", c.filter, got, c.want)
		}
	}
	for _, c := range []struct {
		opts *PruneOptions
		want []string
	}{
		{&PruneOptions{Filter: &Filter{Labels: []string{"app"}}}, nil},
		{nil, []string{"cache"}},
		{&PruneOptions{Named: true, Filter: &Filter{Without: []string{"keep"}}}, nil},
		{&PruneOptions{Named: true}, []string{"db-data"}},
	} {
		p, err := m.Prune(t.Context(), c.opts)
		if err != nil || !slices.Equal(p.Names, c.want) {
			t.Errorf("prune %+v: %v, %v; want %v", c.opts, p.Names, err, c.want)
		}
	}
}

func TestOpenFails(t *testing.T) {
	file := filepath.Join(testenv.Dir(t), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), &Options{Root: filepath.Join(file, "root"), State: filepath.Join(file, "state")})
	if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "volume open ") {
		t.Errorf("open below a file: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
