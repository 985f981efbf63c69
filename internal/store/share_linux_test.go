package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/archive"
	"github.com/amphora-go/amphora/internal/layers"
	"github.com/amphora-go/amphora/internal/overlay"
)

// adopt makes a layer as a build does.
func adopt(t *testing.T, s *Store, l *Lease, lines ...string) string {
	t.Helper()
	work, err := l.Dir()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(work, "")
	if err != nil {
		t.Fatal(err)
	}
	os.MkdirAll(filepath.Join(dir, "diff"), 0o755)
	script(t, filepath.Join(dir, "diff"), lines...)
	name, _, err := s.AdoptLayer(t.Context(), l, dir)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestShare(t *testing.T) {
	if CanUnpack() != nil {
		t.Skip("needs root")
	}
	s := newStore(t)
	l := lease(t, s)
	made := adopt(t, s, l, "dir d", "file d/f content")
	if m, ok, err := s.Layer(made); err != nil || !ok || m.Diff != "" || m.Size != 7 || m.Disk <= 0 {
		t.Fatalf("made: %+v, %v, %v", m, ok, err)
	}
	diff, size, err := s.DiffID(t.Context(), made)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := archive.Create(t.Context(), &b, s.LayerDir(made), &archive.CreateOptions{Overlay: true}); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b.Bytes())
	if diff != fromSum(sum[:]) || size != int64(b.Len()) {
		t.Errorf("diff id %s, %d bytes; the archive has %x, %d", diff, size, sum, b.Len())
	}
	if m, _, _ := s.Layer(made); m.Diff != diff || m.Tar != size {
		t.Errorf("not remembered: %+v", m)
	}
	parent := strings.Repeat("a", 64)
	low, err := s.Share(t.Context(), l, made, "")
	if err != nil || low != encoded(diff) {
		t.Fatalf("lowest: %s, %v; want %s", low, err, diff)
	}
	// A name of it, the layer itself, and once more: always the same.
	up := ""
	for _, from := range []string{made, low, made} {
		got, err := s.Share(t.Context(), l, from, parent)
		if err != nil || up != "" && got != up {
			t.Fatalf("share %s: %s, %v; want %s", from, got, err, up)
		}
		up = got
	}
	if want := ChainIDs([]digest.Digest{digest.Digest("sha256:" + parent), diff})[1]; up != want {
		t.Errorf("chain id %s, want %s", up, want)
	}
	if got, err := s.Share(t.Context(), l, up, parent); err != nil || got != up {
		t.Errorf("shared under its own name: %s, %v", got, err)
	}
	for _, name := range []string{low, up} {
		m, ok, err := s.Layer(name)
		if err != nil || !ok || m.Same != made || m.Diff != diff || m.Tar != size || m.Size != 7 {
			t.Errorf("%s: %+v, %v, %v", name, m, ok, err)
		}
		if s.LayerDir(name) != s.LayerDir(made) {
			t.Errorf("%s is at %s", name, s.LayerDir(name))
		}
	}
	lowers, err := s.Lowers([]string{low, made, parent, up})
	want := []string{s.LayerDir(made), s.LayerDir(parent)}
	if err != nil || !slices.Equal(lowers, want) {
		t.Errorf("lowers %q, %v; want %q", lowers, err, want)
	}
	if err := s.SyncedLayers(t.Context(), []string{up}); err != nil {
		t.Fatal(err)
	}
	if !layers.Settled(s.root, up) || layers.Settled(s.root, parent) {
		t.Error("a name is not settled after the sync of the layer, or one that is not there is")
	}
	// Not synced before the machine went down: no name of it can be trusted.
	os.WriteFile(s.path("layers", made, "pending"), []byte("another boot\n"), 0o600)
	if layers.Settled(s.root, up) {
		t.Error("settled, but the files are pending")
	}
	if missing, err := s.MissingLayers([]string{made, low, up}); err != nil || len(missing) != 3 {
		t.Errorf("missing %v, %v", missing, err)
	}
	os.Remove(s.path("layers", made, "pending"))
	l.Close()
	other := lease(t, s)
	other.AddLayers(t.Context(), up)
	got, err := s.Collect(t.Context(), nil)
	if err != nil || len(got.Layers) != 1 || got.Layers[0] != low {
		t.Errorf("collected %v, %v: a name that is leased must keep the files", got.Layers, err)
	}
	other.Close()
	got, err = s.Collect(t.Context(), nil)
	if err != nil || len(got.Layers) != 2 {
		t.Errorf("collected %v, %v", got.Layers, err)
	}
	if _, _, err := s.DiffID(t.Context(), made); !errors.Is(err, ErrNoLayer) {
		t.Errorf("diff id of what is gone: %v", err)
	}
}

// Images and records keep layers through names.
func TestCollectorKeepsTargets(t *testing.T) {
	if CanUnpack() != nil {
		t.Skip("needs root")
	}
	s := newStore(t)
	l := lease(t, s)
	a, b, c := adopt(t, s, l, "file a 1"), adopt(t, s, l, "file b 1"), adopt(t, s, l, "file c 1")
	up, err := s.Share(t.Context(), l, a, "")
	if err != nil {
		t.Fatal(err)
	}
	img := makeImage(t, s, "", tarWith(t, "x", "1"))
	writeRecord := func(name, text string) {
		t.Helper()
		dir := filepath.Join(s.BuildRecords(), name[:2])
		os.MkdirAll(dir, 0o700)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writeRecord("aa.json", `{"version":1,"layers":["`+up+`"],"image":"`+string(img.Manifest)+`"}`+"\n\n")
	writeRecord("bb.json", `{"version":1,"layers":["`+b+`","../evil"]}`)
	writeRecord("cc.json", `{"version":1,"virtual":true,"layers":["`+c+`"]}`)
	writeRecord("cd.json", `{"version":1,"layers":["`+c) // torn
	writeRecord(".tmp-1", `{"version":1,"layers":["`+c+`"]}`)
	l.Close()
	got, err := s.Collect(t.Context(), nil)
	if err != nil || !slices.Equal(got.Layers, []string{c}) || len(got.Blobs) != 0 {
		t.Errorf("collected %v and %v, %v; want only %s", got.Layers, got.Blobs, err, c)
	}
	os.WriteFile(s.path("layers", b, "pending"), []byte("another boot\n"), 0o600)
	if got, err := s.Collect(t.Context(), nil); err != nil || !slices.Equal(got.Layers, []string{b}) {
		t.Errorf("collected %v, %v; want what was lost with the power, %s", got.Layers, err, b)
	}
}

// Why lowers are each given once, and that it changes nothing.
func TestOverlayRefusesALayerTwice(t *testing.T) {
	if CanUnpack() != nil {
		t.Skip("needs root")
	}
	s := newStore(t)
	l := lease(t, s)
	a := adopt(t, s, l, "dir d", "file d/a a", "file both a", "gone w", "dir o", "opaque o", "file o/a a")
	b := adopt(t, s, l, "dir d", "file d/b b", "file both b", "file w b", "dir o", "file o/b b", "file only b")
	again, err := s.Share(t.Context(), l, a, b)
	if err != nil {
		t.Fatal(err)
	}
	twice := []string{s.LayerDir(again), s.LayerDir(b), s.LayerDir(a)}
	if f, err := overlay.Open(overlay.Layers{Lower: twice}); err == nil {
		f.Close()
		t.Log("this kernel takes a directory twice")
	} else if !errors.Is(err, unix.ELOOP) {
		t.Errorf("a directory twice: %v", err)
	}
	// What three separate layers would show.
	copyOf := adopt(t, s, l, "dir d", "file d/a a", "file both a", "gone w", "dir o", "opaque o", "file o/a a")
	want := shown(t, []string{s.LayerDir(copyOf), s.LayerDir(b), s.LayerDir(a)})
	lowers, err := s.Lowers([]string{a, b, again})
	if err != nil || len(lowers) != 2 {
		t.Fatalf("lowers %q, %v", lowers, err)
	}
	got := shown(t, lowers)
	if !slices.Equal(got, want) {
		t.Errorf("shows %q, want %q", got, want)
	}
	if !slices.Contains(got, "both=a") || !slices.Contains(got, "d/b=b") || slices.Contains(got, "w=b") || slices.Contains(got, "o/b=b") {
		t.Errorf("shows %q", got)
	}
}

// shown lists what an overlay shows.
func shown(t *testing.T, lowers []string) (files []string) {
	t.Helper()
	f, err := overlay.Open(overlay.Layers{Lower: lowers})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	root := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	err = filepath.WalkDir(root+"/", func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		files = append(files, strings.TrimPrefix(p, root+"/")+"="+string(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
