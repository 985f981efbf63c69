package volumes

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/journal"
)

func TestLife(t *testing.T) {
	s, _ := newStore(t)
	ctx := t.Context()
	if got := names(t, s); got != "" {
		t.Errorf("a new store has volumes: %s", got)
	}
	v := must[*Volume](t)(s.Create(ctx, &Spec{Name: "db", Labels: map[string]string{"tier": "1"}}))
	if v.Name != "db" || v.Driver != "local" || v.Anonymous || v.Seq == 0 || v.Source() != s.Path("db") {
		t.Errorf("created %+v", v)
	}
	if info, err := os.Stat(s.Path("db")); err != nil || info.Mode() != fs.ModeDir|0o755 {
		t.Errorf("data directory: %v, %v", info, err)
	}
	if info, err := os.Stat(s.dir()); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory of volumes: %v, %v", info, err)
	}
	if _, err := s.Create(ctx, &Spec{Name: "db"}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second create: %v", err)
	}
	anon := must[*Volume](t)(s.Create(ctx, nil))
	if !anon.Anonymous || !isID(anon.Name) {
		t.Errorf("anonymous volume %+v", anon)
	}
	got := must[*Volume](t)(s.Get(ctx, "db"))
	if got.Labels["tier"] != "1" || got.Seq != v.Seq || !got.Created.Equal(v.Created) {
		t.Errorf("read back %+v, made %+v", got, v)
	}
	for _, name := range []string{"nope", "..", "x", "a/b", ""} {
		if _, err := s.Get(ctx, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("get %q: %v", name, err)
		}
		if err := s.Remove(ctx, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("remove %q: %v", name, err)
		}
	}
	if err := s.Remove(ctx, "db"); err != nil {
		t.Fatal(err)
	}
	if got := names(t, s); got != anon.Name {
		t.Errorf("left: %s", got)
	}
	if want := []string{"db create", anon.Name + " create", "db destroy"}; !slices.Equal(events(t, s), want) {
		t.Errorf("events %v, want %v", events(t, s), want)
	}
	for ev := range s.root.Log.Read(ctx, &journal.ReadOptions{}) {
		if ev.ID == "db" && (ev.Attributes["driver"] != "local" || ev.Attributes["tier"] != "1") {
			t.Errorf("event's attributes: %v", ev.Attributes)
		}
	}
	if left, _ := os.ReadDir(filepath.Join(s.root.Dir, "trash")); len(left) > 0 {
		t.Errorf("trash: %v", left)
	}
}

func TestSpecIsChecked(t *testing.T) {
	s, dir := newStore(t)
	for _, c := range []struct {
		spec Spec
		kind error
		text string
	}{
		{Spec{Name: "x"}, fs.ErrInvalid, "two to 200"},
		{Spec{Name: "../x"}, fs.ErrInvalid, "invalid name"},
		{Spec{Driver: "ceph"}, errors.ErrUnsupported, `driver "ceph"`},
		{Spec{Options: map[string]string{"colour": "red"}}, fs.ErrInvalid, `option "colour"`},
		{Spec{Options: map[string]string{"size": "1g"}}, errors.ErrUnsupported, "size=1g"},
		{Spec{Options: map[string]string{"type": "nfs", "device": ":/x", "o": "addr=1.2.3.4"}}, errors.ErrUnsupported, "type=nfs"},
		{Spec{Options: map[string]string{"type": "tmpfs"}}, errors.ErrUnsupported, "type=tmpfs"},
		{Spec{Options: map[string]string{"device": "/x"}}, fs.ErrInvalid, "need type=none"},
		{Spec{Options: map[string]string{"type": "none", "device": "/x"}}, fs.ErrInvalid, "needs o=bind"},
		{Spec{Options: map[string]string{"type": "none", "o": "bind", "device": "x"}}, fs.ErrInvalid, "device=x"},
		{Spec{Options: map[string]string{"type": "none", "o": "bind,ro", "device": "/x"}}, errors.ErrUnsupported, `"ro"`},
	} {
		if _, err := s.Create(t.Context(), &c.spec); !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%+v: %v; want %v with %q", c.spec, err, c.kind, c.text)
		}
	}
	if _, err := os.Stat(s.dir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused spec left something: %v", err)
	}

	device := filepath.Join(dir, "device")
	opts := map[string]string{"type": "none", "o": "rbind", "device": device}
	v := must[*Volume](t)(s.Create(t.Context(), &Spec{Name: "bound", Options: opts}))
	if d, recursive, ok := v.Bound(); d != device || !recursive || !ok || v.Source() != device || v.Fillable() {
		t.Errorf("bound volume: %s %v %v", d, recursive, ok)
	}
	for _, name := range []string{"bound", "other"} {
		if _, err := s.Ensure(t.Context(), &Spec{Name: name, Options: opts}); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("ensure %s without its directory: %v", name, err)
		}
	}
	if err := os.Mkdir(device, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(device, "keep"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	must[*Claim](t)(s.Ensure(t.Context(), &Spec{Name: "bound"})).Release()
	if n := must[int64](t)(s.Size(t.Context(), "bound")); n != -1 {
		t.Errorf("size of a bound volume: %d", n)
	}
	if err := s.Remove(t.Context(), "bound"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(device, "keep")); err != nil {
		t.Errorf("removal touched the directory it was bound to: %v", err)
	}
}

func TestInUse(t *testing.T) {
	s, _ := newStore(t)
	ctx := t.Context()
	must[*Volume](t)(s.Create(ctx, &Spec{Name: "db"}))
	id := container(t, s, "web", "db", "other")
	err := s.Remove(ctx, "db")
	if !errors.Is(err, fault.ErrInUse) || !strings.Contains(err.Error(), "web ("+id[:12]+")") {
		t.Errorf("remove of a used volume: %v", err)
	}
	second := container(t, s, "web2", "db")
	if err := s.RemoveOf(ctx, "db", id); !errors.Is(err, fault.ErrInUse) || strings.Contains(err.Error(), id[:12]) {
		t.Errorf("remove with one of two users: %v", err)
	}
	if err := os.RemoveAll(s.root.Path(second)); err != nil {
		t.Fatal(err)
	}

	// A record that nobody can read may name any volume.
	must[*Volume](t)(s.Create(ctx, &Spec{Name: "free"}))
	odd := container(t, s, "odd")
	if err := os.WriteFile(s.root.Path(odd, "record.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{s.Remove(ctx, "free"), func() error { _, err := s.Prune(ctx, nil); return err }()} {
		if err == nil || !strings.Contains(err.Error(), "remove that container first") || !strings.Contains(err.Error(), odd[:12]) {
			t.Errorf("with an unreadable container: %v", err)
		}
	}
	// A record that was logged, but whose writer was killed before the rename.
	if err := os.Remove(s.root.Path(odd, "record.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.root.Path(odd, "record.json.next"), []byte(`{"version":1,"name":"odd","volumes":[{"name":"free"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(ctx, "free"); !errors.Is(err, fault.ErrInUse) || !strings.Contains(err.Error(), "odd") {
		t.Errorf("with a record about to appear: %v", err)
	}
	if err := os.Remove(s.root.Path(odd, "record.json.next")); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(ctx, "free"); err != nil { // a half-made container uses nothing
		t.Error(err)
	}
	if err := s.RemoveOf(ctx, "db", id); err != nil {
		t.Error(err)
	}
}

func TestClaim(t *testing.T) {
	s, _ := newStore(t)
	ctx := t.Context()
	a := must[*Claim](t)(s.Ensure(ctx, &Spec{Name: "db", Labels: map[string]string{"first": ""}}))
	b := must[*Claim](t)(s.Ensure(ctx, &Spec{Name: "db"}))
	if !a.Created || b.Created || len(b.Labels) != 1 {
		t.Errorf("created: %v, %v; labels %v", a.Created, b.Created, b.Labels)
	}
	if err := s.Remove(ctx, "db"); !errors.Is(err, fault.ErrInUse) || !strings.Contains(err.Error(), "being created") {
		t.Errorf("remove under two claims: %v", err)
	}
	if p := must[*Pruned](t)(s.Prune(ctx, &PruneOptions{Named: true})); len(p.Names) > 0 {
		t.Errorf("prune took a claimed volume")
	}
	a.Release()
	if err := a.Undo(ctx); err != nil { // b still has it
		t.Fatal(err)
	}
	if err := b.Undo(ctx); err != nil { // b did not make it
		t.Fatal(err)
	}
	if got := names(t, s); got != "db" {
		t.Fatalf("left: %q", got)
	}
	c := must[*Claim](t)(s.Ensure(ctx, nil))
	if !c.Created || !c.Anonymous {
		t.Errorf("anonymous claim %+v", c.Volume)
	}
	if err := errors.Join(c.Undo(ctx), s.Remove(ctx, "db")); err != nil {
		t.Fatal(err)
	}
	if got := names(t, s); got != "" {
		t.Errorf("left: %q", got)
	}
}

func TestPrune(t *testing.T) {
	s, _ := newStore(t)
	ctx := t.Context()
	for _, name := range []string{"named", "used", "claimed", "kept"} {
		must[*Volume](t)(s.Create(ctx, &Spec{Name: name, Anonymous: name != "named"}))
		if err := os.WriteFile(filepath.Join(s.Path(name), "f"), make([]byte, 1000), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(filepath.Join(s.Path(name), "f"), filepath.Join(s.Path(name), "g")); err != nil {
			t.Fatal(err)
		}
	}
	for range pruneBatch + 3 {
		must[*Volume](t)(s.Create(ctx, &Spec{Volatile: true}))
	}
	container(t, s, "c1", "used")
	claim := must[*Claim](t)(s.Ensure(ctx, &Spec{Name: "claimed"}))
	defer claim.Release()
	p := must[*Pruned](t)(s.Prune(ctx, &PruneOptions{Filter: func(v *Volume) bool { return v.Name != "kept" }}))
	if len(p.Names) != pruneBatch+3 || p.Bytes != 0 {
		t.Errorf("pruned %d volumes, %d bytes", len(p.Names), p.Bytes)
	}
	if got := names(t, s); got != "claimed kept named used" {
		t.Errorf("left: %s", got)
	}
	p = must[*Pruned](t)(s.Prune(ctx, nil))
	if !slices.Equal(p.Names, []string{"kept"}) || p.Bytes != 1000 {
		t.Errorf("pruned %v, %d bytes", p.Names, p.Bytes)
	}
	p = must[*Pruned](t)(s.Prune(ctx, &PruneOptions{Named: true}))
	if !slices.Equal(p.Names, []string{"named"}) {
		t.Errorf("pruned %v", p.Names)
	}
}

func TestDamagedRecords(t *testing.T) {
	s, _ := newStore(t)
	ctx := t.Context()
	anon := must[*Volume](t)(s.Create(ctx, nil)).Name
	for _, name := range []string{"newer", "torn", "wrong"} {
		must[*Volume](t)(s.Create(ctx, &Spec{Name: name}))
	}
	rewrite(t, s, "newer", func(m map[string]any) { m["version"] = 99 })
	rewrite(t, s, "wrong", func(m map[string]any) { m["name"] = "other" })
	for _, name := range []string{"torn", anon} {
		if err := os.Truncate(s.path(name, "record.json"), 10); err != nil {
			t.Fatal(err)
		}
	}
	all := must[[]*Volume](t)(s.List(ctx))
	if len(all) != 4 {
		t.Fatalf("%d listed", len(all))
	}
	for _, v := range all {
		if v.Problem == "" {
			t.Errorf("%s is listed as sound", v.Name)
		}
		if _, err := s.Get(ctx, v.Name); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("get %s: %v", v.Name, err)
		}
		if _, err := s.Ensure(ctx, &Spec{Name: v.Name}); err == nil {
			t.Errorf("ensure %s took a damaged volume", v.Name)
		}
	}
	if err := s.Remove(ctx, "newer"); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("remove of a newer one: %v", err)
	}
	if p := must[*Pruned](t)(s.Prune(ctx, &PruneOptions{Named: true})); !slices.Equal(p.Names, []string{anon}) {
		t.Errorf("pruned %v", p.Names)
	}
	if err := errors.Join(s.Remove(ctx, "torn"), s.Remove(ctx, "wrong")); err != nil {
		t.Error(err)
	}
	if got := names(t, s); got != "newer" {
		t.Errorf("left: %s", got)
	}
}

// A directory whose record somebody deleted keeps its data.
func TestLostRecordKeepsData(t *testing.T) {
	s, _ := newStore(t)
	must[*Volume](t)(s.Create(t.Context(), &Spec{Name: "db"}))
	file := filepath.Join(s.Path("db"), "precious")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Remove(s.path("db", "record.json"))); err != nil {
		t.Fatal(err)
	}
	if got := names(t, s); got != "" {
		t.Errorf("listed: %s", got)
	}
	if err := s.Remove(t.Context(), "db"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("remove: %v", err)
	}
	must[*Volume](t)(s.Create(t.Context(), &Spec{Name: "db"}))
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}
