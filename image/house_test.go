package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/amphora-go/amphora/internal/record"
)

// configure writes the settings of a Root as an engine would.
func configure(t testing.TB, s *Store, images record.Images) {
	t.Helper()
	data, err := json.Marshal(record.Engine{Version: 1, ID: "00000000", Settings: record.Settings{Images: images}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Root(), "engine.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// container makes a record that uses an image.
func container(t testing.TB, s *Store, letter string, img *Image) string {
	t.Helper()
	dir := filepath.Join(s.Root(), "containers", strings.Repeat(letter, 64))
	layers, _ := json.Marshal(img.Layers())
	use := fmt.Sprintf(`{"version":1,"imageID":%q,"manifest":%q,"layers":%s}`, img.ID(), img.Manifest(), layers)
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "record.json"), []byte(use), 0o600)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func listed(t testing.TB, s *Store, opts *ListOptions) string {
	t.Helper()
	infos, err := s.List(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, i := range infos {
		name := "<none>"
		if len(i.Refs) > 0 {
			name = ""
			for _, r := range i.Refs {
				name += "+" + r.Familiar()
			}
			name = name[1:]
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestListFilters(t *testing.T) {
	s := openTest(t, nil)
	day := func(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }
	add := func(ref string, n int, size int, changes ...string) *Image {
		t.Helper()
		img, err := s.Import(t.Context(), strings.NewReader(string(tarOf(t, file{name: "f", body: strings.Repeat("x", size)}))), &ImportOptions{Ref: ref, Created: day(n), Changes: changes})
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	add("app:one", 1, 10, "LABEL tier=web")
	two := add("team/app:two", 2, 2000, "LABEL tier=db")
	add("localhost:5000/x/y:three", 3, 30)
	add("", 4, 40, "LABEL tier=web")
	if err := s.Tag(t.Context(), "team/app:two", "app:deux"); err != nil {
		t.Fatal(err)
	}
	container(t, s, "c", two)
	for want, o := range map[string]ListOptions{
		"app:one":                                 {References: []string{"app:o*"}},
		"app:deux app:one":                        {References: []string{"app"}},
		"team/app:two":                            {References: []string{"team/*"}},
		"localhost:5000/x/y:three":                {References: []string{"*/*/y"}},
		"<none> app:one":                          {Labels: []string{"tier=web"}},
		"app:deux+team/app:two":                   {Labels: []string{"tier", "!tier=web"}},
		"<none>":                                  {Dangling: true},
		"<none> localhost:5000/x/y:three":         {Since: "app:deux"},
		"app:one ":                                {Before: "app:deux"},
		"app:one app:deux+team/app:two ":          {CreatedBefore: day(3)},
		"app:deux+team/app:two ":                  {MinSize: 1000},
		"<none> app:one localhost:5000/x/y:three": {Unused: true},
		"app:one localhost:5000/x/y:three":        {Unused: true, Named: true},
		" ":                                       {References: []string{"nothing*"}},
	} {
		sorted := strings.Fields(want)
		slices.Sort(sorted)
		if got := listed(t, s, &o); got != strings.Join(sorted, " ") {
			t.Errorf("%+v: %q, want %q", o, got, sorted)
		}
	}
	if _, err := s.List(t.Context(), &ListOptions{References: []string{"["}}); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a bad pattern: %v", err)
	}
	if _, err := s.List(t.Context(), &ListOptions{Before: "none"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before an unknown image: %v", err)
	}
}

func TestPrune(t *testing.T) {
	s := openTest(t, nil)
	used, idle := importTest(t, s, "used", "1"), importTest(t, s, "idle", "2")
	old := importTest(t, s, "", "3")
	dir := container(t, s, "c", used)
	before := contents(t, s.Root())
	for _, all := range []bool{false, true} {
		p, err := s.Prune(t.Context(), &PruneOptions{All: all, DryRun: true})
		want := 1
		if all {
			want = 2
		}
		if err != nil || len(p.Images) != want || p.Bytes <= 0 || len(p.Blobs) != 3*want {
			t.Errorf("dry run, all %v: %+v, %v", all, p, err)
		}
	}
	if after := contents(t, s.Root()); !slices.Equal(before, after) {
		t.Error("a dry run changed the store")
	}
	p, err := s.Prune(t.Context(), nil)
	if err != nil || len(p.Images) != 1 || p.Images[0].ID != old.ID() {
		t.Fatalf("dangling: %+v, %v", p, err)
	}
	// What somebody is about to use stays, also without a container yet.
	l, err := s.s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.AddImage(t.Context(), idle.img); err != nil {
		t.Fatal(err)
	}
	if p, err := s.Prune(t.Context(), &PruneOptions{All: true}); err != nil || len(p.Images) != 0 {
		t.Errorf("a leased image is pruned: %+v, %v", p, err)
	}
	l.Close()
	if p, err := s.Prune(t.Context(), &PruneOptions{All: true, Only: ListOptions{CreatedBefore: time.Now().Add(-time.Hour)}}); err != nil || len(p.Images) != 0 {
		t.Errorf("younger than asked for: %+v, %v", p, err)
	}
	if p, err = s.Prune(t.Context(), &PruneOptions{All: true}); err != nil || len(p.Images) != 1 || p.Images[0].Untagged[0].Familiar() != "idle:latest" {
		t.Fatalf("all: %+v, %v", p, err)
	}
	os.RemoveAll(dir)
	if _, err = s.Prune(t.Context(), &PruneOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	if left := append(contents(t, s.Root()), leftovers(t, s.Root())...); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

// Pulls and prunes of the same image, by stores that know nothing of each
// other: a pull that succeeded gave an image that was whole.
func TestPruneBesidePulls(t *testing.T) {
	r := newRegistry(t)
	r.push("app", "v1", "", noise(t, "base", 100_000), tarOf(t, file{name: "f", body: "x"}))
	root, state := t.TempDir(), t.TempDir()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	pruner := openTest(t, &Options{Root: root, State: state})
	pruned := make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				pruned <- nil
				return
			default:
			}
			if _, err := pruner.Prune(context.Background(), &PruneOptions{All: true}); err != nil {
				pruned <- err
				return
			}
		}
	}()
	for range 3 {
		s := openTest(t, &Options{Root: root, State: state})
		wg.Go(func() {
			for range 5 {
				img, err := s.Pull(t.Context(), r.host()+"/app:v1", nil)
				// Named, and pruned before it was read again.
				if err != nil && !strings.Contains(err.Error(), "missing") {
					t.Error(err)
				}
				if err != nil || os.Geteuid() != 0 {
					continue
				}
				if l, err := img.Prepare(t.Context()); err == nil {
					if b, err := os.ReadFile(filepath.Join(s.s.LayerDir(img.Layers()[1]), "f")); err != nil || string(b) != "x" {
						t.Errorf("a leased layer: %q, %v", b, err)
					}
					l.Close()
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	if err := <-pruned; err != nil {
		t.Error(err)
	}
	checkStore(t, pruner)
}

func TestUsage(t *testing.T) {
	r := newRegistry(t)
	base := noise(t, "base", 100_000)
	one := r.push("one", "v1", "", base, tarOf(t, file{name: "f", body: "1"}))
	r.push("two", "v1", "", base, noise(t, "larger", 50_000))
	s := openTest(t, nil)
	a, b := pullOne(t, s, r.host()+"/one:v1", nil), pullOne(t, s, r.host()+"/two:v1", nil)
	container(t, s, "c", a)
	u, err := s.Usage(t.Context())
	if err != nil || len(u.Images) != 2 {
		t.Fatalf("%+v, %v", u, err)
	}
	if u.Images[0].ID != b.ID() || u.Images[0].Shared != u.Images[1].Shared || u.Images[0].Shared < one.layers[0].Size || u.Images[1].Containers != 1 {
		t.Errorf("images %+v", u.Images)
	}
	var blobs, layers int64
	for _, p := range u.Blobs {
		blobs += p.Size
	}
	for _, p := range u.Layers {
		layers += p.Size
	}
	if sum := u.Images[0].Unique + u.Images[1].Size; u.Size != blobs+layers || u.Size != sum || u.Garbage != 0 || u.Reclaimable != u.Images[0].Unique {
		t.Errorf("size %d, blobs and layers %d, images %d, garbage %d, reclaimable %d", u.Size, blobs+layers, sum, u.Garbage, u.Reclaimable)
	}
	p, err := s.Prune(t.Context(), &PruneOptions{All: true})
	if err != nil || p.Bytes != u.Reclaimable {
		t.Errorf("a prune gave %d bytes back, promised were %d: %v", p.Bytes, u.Reclaimable, err)
	}
}

func TestDroppedBlobs(t *testing.T) {
	needRoot(t)
	r, to := newRegistry(t), newRegistry(t)
	pushed := r.push("app", "v1", "", noise(t, "base", 100_000), tarOf(t, file{name: "d/", typ: '5'}, file{name: "d/f", body: "x"}))
	s := openTest(t, nil)
	configure(t, s, record.Images{DropBlobs: true})
	name := r.host() + "/app:v1"
	img := pullOne(t, s, name, nil)
	for _, l := range pushed.layers {
		if _, ok := s.s.HasBlob(l.Digest); ok {
			t.Errorf("blob %s is kept", l.Digest)
		}
	}
	if v, err := s.Verify(t.Context(), nil); err != nil || len(v.Problems)+len(v.Unproven) > 0 || v.Layers != 2 {
		t.Fatalf("after dropping: %+v, %v", v, err)
	}
	before := r.count("GET blobs")
	pullOne(t, s, name, nil)
	if n := r.count("GET blobs") - before; n != 0 {
		t.Errorf("%d blobs are fetched though the layers are there", n)
	}
	target := to.host() + "/copy:v1"
	if err := s.Tag(t.Context(), name, target); err != nil {
		t.Fatal(err)
	}
	done, err := s.Push(t.Context(), target, nil)
	if err != nil || done[0].Digest != img.Manifest() {
		t.Fatalf("pushed %+v, %v; want %s", done, err, img.Manifest())
	}
	other := openTest(t, nil)
	if again := pullOne(t, other, target, nil); again.ID() != img.ID() {
		t.Error("another image arrived")
	}
	// Also when the name that it was pulled by is gone.
	if _, err := s.Trim(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(t.Context(), name, "kept:v1"); err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{name, target} {
		if _, err := s.Remove(t.Context(), gone, nil); err != nil {
			t.Fatal(err)
		}
	}
	var saved bytes.Buffer
	if err := s.Save(t.Context(), &saved, []string{"kept:v1"}, nil); err != nil {
		t.Fatal(err)
	}
	if loaded, err := other.Load(t.Context(), &saved, nil); err != nil || loaded[0].Image.Manifest() != img.Manifest() {
		t.Errorf("saved without its name: %+v, %v", loaded, err)
	}
	pullOne(t, s, name, nil)
	// Damage is found without a blob, and mended with one.
	if _, err := s.Trim(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.s.LayerDir(img.Layers()[1]), "d/f"), []byte("y"), 0o644); err != nil {
		t.Fatal(err)
	}
	v, err := s.Verify(t.Context(), nil)
	if err != nil || len(v.Problems) != 1 || v.Problems[0].ID != img.Layers()[1] || !strings.Contains(v.Problems[0].Text, "d/f") {
		t.Fatalf("a changed file: %+v, %v", v, err)
	}
	if done, err := s.Repair(t.Context(), nil); err != nil || len(done) != 1 || done[0].Err != nil || done[0].Done != "unpacked" {
		t.Fatalf("repair: %+v, %v", done, err)
	}
	if b, _ := os.ReadFile(filepath.Join(s.s.LayerDir(img.Layers()[1]), "d/f")); string(b) != "x" {
		t.Errorf("mended: %q", b)
	}
}

func TestLimit(t *testing.T) {
	needRoot(t)
	r := newRegistry(t)
	for i := range 4 {
		r.push("app", fmt.Sprint("v", i), "", noise(t, strings.Repeat("n", i+1), 100_000))
	}
	s := openTest(t, nil)
	const limit = 350_000
	configure(t, s, record.Images{MaxBytes: limit})
	name := func(i int) string { return fmt.Sprintf("%s/app:v%d", r.host(), i) }
	first := pullOne(t, s, name(0), nil)
	pullOne(t, s, name(1), nil)
	pullOne(t, s, name(2), nil)
	// Three layers fit without their blobs. The first is used once more.
	l, err := first.Prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	pullOne(t, s, name(3), nil)
	below := func() {
		t.Helper()
		u, err := s.Usage(t.Context())
		if err != nil || u.Size > limit {
			t.Errorf("%d bytes, %v", u.Size, err)
		}
	}
	below()
	if _, err := s.Get(t.Context(), name(0)); err != nil {
		t.Errorf("used lately, but gone: %v", err)
	}
	if _, err := s.Get(t.Context(), name(3)); err != nil {
		t.Errorf("just pulled, but gone: %v", err)
	}
	if _, err := s.Get(t.Context(), name(1)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the one used least recently is still there: %v", err)
	}
	if v, err := s.Verify(t.Context(), nil); err != nil || len(v.Problems) > 0 {
		t.Errorf("%+v, %v", v, err)
	}
	// What containers have stays, and then nothing more fits.
	infos, _ := s.List(t.Context(), nil)
	for i, info := range infos {
		img, err := s.Get(t.Context(), info.ID)
		if err != nil {
			t.Fatal(err)
		}
		container(t, s, fmt.Sprint(i), img)
	}
	r.push("app", "big", "", noise(t, "big", 300_000))
	before := listed(t, s, nil)
	_, err = s.Pull(t.Context(), r.host()+"/app:big", nil)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "MaxBytes") {
		t.Errorf("beyond the limit: %v", err)
	}
	if after := listed(t, s, nil); after != before {
		t.Errorf("images %q, before %q", after, before)
	}
	below()
}
