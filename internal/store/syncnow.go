package store

import (
	"context"
	"errors"
	"os"

	"github.com/amphora-go/amphora/internal/step"
)

// SyncedLayers makes those of the layers that are there survive power loss
// before it returns, and takes their marks away. Layers that are marked by
// nobody cost nothing; for others the file system is written back once, however
// many they are: one call is cheaper than one for each layer, or for each file.
func (s *Store) SyncedLayers(ctx context.Context, names []string) error {
	var roots []*os.Root
	defer func() {
		for _, r := range roots {
			r.Close()
		}
	}()
	for _, n := range s.withTargets(names) {
		// One of another boot is no layer: whoever relies on it finds out.
		if state, err := s.pending(n); err != nil {
			return err
		} else if state != pendingNow {
			continue
		}
		r, err := os.OpenRoot(s.layerPath(n))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return s.trouble(err)
		}
		roots = append(roots, r)
	}
	if len(roots) == 0 {
		return nil
	}
	done := make(chan error, 1)
	dir := s.path("layers")
	s.background.Go(func() { done <- syncTree(dir) })
	select {
	case err := <-done:
		if err != nil {
			return s.trouble(err)
		}
	case <-ctx.Done():
		return context.Cause(ctx) // the kernel goes on, nobody has to wait for it
	}
	step.At("layers.synced")
	for _, r := range roots {
		if err := r.Remove("pending"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return s.trouble(err)
		}
	}
	return nil
}
