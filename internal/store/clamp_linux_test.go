package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestClamped(t *testing.T) {
	if CanUnpack() != nil {
		t.Skip("needs root")
	}
	s := newStore(t)
	l := lease(t, s)
	made := adopt(t, s, l, "dir d", "file d/f content", "file d/g content")
	latest := time.Unix(1_000_000, 5)
	file := func(layer, name string) string { return filepath.Join(s.LayerDir(layer), name) }
	early := latest.Add(-time.Hour)
	if err := os.Chtimes(file(made, "d/g"), early, early); err != nil {
		t.Fatal(err)
	}
	copied, err := s.Clamped(t.Context(), l, made, latest)
	if err != nil || copied == made {
		t.Fatalf("%s, %v", copied, err)
	}
	for name, want := range map[string]time.Time{"d": latest, "d/f": latest, "d/g": early} {
		if st, err := os.Lstat(file(copied, name)); err != nil || !st.ModTime().Equal(want) {
			t.Errorf("%s: %v, %v; want %v", name, st.ModTime(), err, want)
		}
	}
	for _, from := range []string{made, made} { // remembered
		if again, err := s.Clamped(t.Context(), l, from, latest); err != nil || again != copied {
			t.Errorf("again: %s, %v; want %s", again, err, copied)
		}
	}
	if again, err := s.Clamped(t.Context(), l, copied, latest); err != nil || again != copied {
		t.Errorf("of the copy: %s, %v", again, err)
	}
	// A copy that is gone is made anew.
	if err := os.RemoveAll(s.layerPath(copied)); err != nil {
		t.Fatal(err)
	}
	other := lease(t, s)
	if again, err := s.Clamped(t.Context(), other, made, latest); err != nil || again == copied {
		t.Errorf("after its loss: %s, %v", again, err)
	}
	if _, err := s.Clamped(t.Context(), l, copied[:62]+"00", latest); !errors.Is(err, ErrNoLayer) {
		t.Errorf("of nothing: %v", err)
	}
}

func TestSyncedLayers(t *testing.T) {
	if CanUnpack() != nil {
		t.Skip("needs root")
	}
	s := newStore(t)
	l := lease(t, s)
	made := adopt(t, s, l, "file f content")
	chain, err := s.Share(t.Context(), l, made, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SyncedLayers(t.Context(), []string{chain, chain[:62] + "00"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{made, chain} {
		if state, err := s.pending(name); err != nil || state != pendingNot {
			t.Errorf("layer %s is marked still: %v, %v", name, state, err)
		}
	}
	more := adopt(t, s, l, "file f other")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// Either was first.
	if err := s.SyncedLayers(ctx, []string{more}); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	s.Wait()
}
