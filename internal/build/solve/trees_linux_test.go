package solve

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/amphora-go/amphora/internal/build/op"
)

func TestFetchedAndMounted(t *testing.T) {
	w := newWorld(t)
	w.write("main", "one")
	base := mkfile(nil, "/base", "base")
	use := func() *op.Vertex {
		v := command(base, "x", "1", op.Mount{Type: op.Bind, Target: "/src", Input: 1, Output: op.Scratch, ReadOnly: true},
			op.Mount{Type: op.Cache, Target: "/cache", Input: op.Scratch, Output: op.Scratch, CacheID: "c", Sharing: op.Locked})
		v.Inputs = append(v.Inputs, op.Input{Vertex: vertex(&op.Local{Name: "context"})})
		return v
	}
	w.solve(use(), "x")
	w.solve(use(), "x")
	w.wantRan()
	w.write("main", "two")
	w.solve(use(), "x")
	w.wantRan("write x 1")
	if got := w.solve(vertex(&op.HTTP{URL: "http://afar/x"}), "fetched"); got != "from afar" {
		t.Errorf("got %q", got)
	}
}

func TestDiff(t *testing.T) {
	w := newWorld(t)
	base := mkfile(nil, "/base", "base")
	upper := mkfile(base, "/more", "more")
	b := w.build()
	r, err := b.Solve(t.Context(), op.Input{Vertex: vertex(&op.Diff{Lower: 0, Upper: 1}, base, upper)})
	if err != nil {
		t.Fatal(err)
	}
	if layers, err := r.Layers(t.Context()); err != nil || len(layers) != 1 {
		t.Errorf("layers %v, %v", layers, err)
	}
	// Trees that have nothing to do with each other are compared.
	other := mkfile(mkfile(nil, "/else", "else"), "/base", "base")
	v := vertex(&op.Merge{}, base, vertex(&op.Diff{Lower: 0, Upper: 1}, base, other))
	if r, err = b.Solve(t.Context(), op.Input{Vertex: v}); err != nil {
		t.Fatal(err)
	}
	if got := w.read(r, "else"); got != "else" {
		t.Errorf("got %q", got)
	}
}

// Over another tree a deletion would show the names of what is deleted.
func TestMergeOfDeletions(t *testing.T) {
	w := newWorld(t)
	base := mkfile(nil, "/dir/file", "x")
	base.Op.(*op.File).Actions = append([]op.Action{{Mkdir: &op.Mkdir{Path: "/dir", Mode: 0o755}}}, base.Op.(*op.File).Actions...)
	less := vertex(&op.File{Base: 0, Actions: []op.Action{{Remove: &op.Remove{Path: "/dir/file"}}}}, base)
	b := w.build()
	r, err := b.Solve(t.Context(), op.Input{Vertex: vertex(&op.Merge{}, mkfile(nil, "/other", ""), less)})
	if err == nil {
		_, err = r.Layers(t.Context())
	}
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "/dir/file") {
		t.Errorf("got %v", err)
	}
}

// A context that changes while it is copied is built as it was copied, and not
// remembered as what it was before.
func TestContextChanges(t *testing.T) {
	w := newWorld(t)
	w.write("main", "one")
	b := w.build()
	first := command(mkfile(nil, "/base", "base"), "first", "1")
	// The command runs between the scan and the copy.
	w.hook = func(context.Context, []string) error {
		time.Sleep(10 * time.Millisecond)
		w.write("main", "changed")
		return nil
	}
	v := copied(first, "main")
	if _, err := b.Solve(t.Context(), op.Input{Vertex: v.Inputs[1].Vertex}); err != nil {
		t.Fatal(err)
	}
	r, err := b.Solve(t.Context(), op.Input{Vertex: v})
	if err != nil {
		t.Fatal(err)
	}
	if got := w.read(r, "main"); got != "changed" {
		t.Errorf("got %q", got)
	}
	b.Close()
	w.hook = nil
	w.write("main", "one")
	if got := w.solve(w.graph(), "main"); got != "one" {
		t.Errorf("afterwards got %q", got)
	}
}

// A command that has the only right to a cache mount does not wait for another
// that needs it, to be executed again.
func TestCacheMountOfAnInput(t *testing.T) {
	w := newWorld(t)
	mount := op.Mount{Type: op.Cache, Target: "/cache", Input: op.Scratch, Output: op.Scratch, CacheID: "one", Sharing: op.Locked}
	first := command(mkfile(nil, "/base", "base"), "first", "1", mount)
	w.solve(command(first, "second", "2", mount), "second")
	layers, err := filepath.Glob(filepath.Join(w.store.Root(), "layers/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		if err := os.RemoveAll(l); err != nil {
			t.Fatal(err)
		}
	}
	again := command(first, "third", "3", mount)
	if got := w.solve(again, "third"); got != "3" {
		t.Errorf("got %q", got)
	}
	w.wantRan("write first 1", "write third 3")
}
