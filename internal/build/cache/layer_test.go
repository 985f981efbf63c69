package cache

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/amphora-go/amphora/internal/layers"
)

func TestLayers(t *testing.T) {
	c := newCache(t)
	l := lease(t, c)
	y, err := c.NewLayer(l)
	must(t, err)
	if _, err := os.Lstat(y.Upper); !os.IsNotExist(err) {
		t.Errorf("Upper exists: %v", err)
	}
	a := publish(t, c, l, "a", []byte("content"))
	empty, size, err := y.Publish(t.Context(), l)
	if err != nil || size != 0 {
		t.Fatalf("an empty layer: %d, %v", size, err)
	}
	if _, _, err := y.Publish(t.Context(), l); !errors.Is(err, os.ErrClosed) {
		t.Errorf("published twice: %v", err)
	}
	must(t, y.Discard())
	gone, err := c.NewLayer(l)
	must(t, err)
	must(t, gone.Discard())
	must(t, gone.Discard())
	work, err := l.Dir()
	must(t, err)
	if left, err := os.ReadDir(work); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	lowers, err := c.s.Lowers([]string{empty, a})
	must(t, err)
	if data, err := os.ReadFile(filepath.Join(lowers[0], "a")); err != nil || string(data) != "content" {
		t.Errorf("content %q, %v", data, err)
	}
	ok, err := c.Present(t.Context(), l, []string{empty, a})
	if err != nil || !ok {
		t.Errorf("present: %v, %v", ok, err)
	}
	l.Close()
	id := put(t, c, Record{Kind: "file", Layers: []string{empty, a}})
	if _, err := c.s.Collect(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	other := lease(t, c)
	r, _, err := c.Get(id)
	must(t, err)
	if ok, err := c.Present(t.Context(), other, r.Layers); err != nil || !ok {
		t.Errorf("what a record keeps: %v, %v", ok, err)
	}
	if ok, err := c.Present(t.Context(), other, []string{a, randomName()}); err != nil || ok {
		t.Errorf("with one that is missing: %v, %v", ok, err)
	}
	if ok, err := c.Present(t.Context(), other, nil); err != nil || !ok {
		t.Errorf("nothing: %v, %v", ok, err)
	}
	if layers.Settled(c.s.Root(), a) {
		t.Error("settled before any sync")
	}
	c.Sync()
	c.s.Wait()
	if !layers.Settled(c.s.Root(), a) || !layers.Settled(c.s.Root(), empty) {
		t.Error("not settled after the sync")
	}
	// The power went before the sync.
	must(t, os.WriteFile(filepath.Join(c.s.Root(), "layers", a, "pending"), []byte("another boot\n"), 0o600))
	last := lease(t, c)
	if ok, err := c.Present(t.Context(), last, r.Layers); err != nil || ok {
		t.Errorf("after a loss of power: %v, %v", ok, err)
	}
}
