package store

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/amphora-go/amphora/internal/archive"
	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/layers"
	"github.com/amphora-go/amphora/internal/step"
)

// clamped is the file "epoch-SECONDS.json" of a layer: which one has its files
// with times that are not later. It is not synced, since that can be made again.
type clamped struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
}

// Clamped returns a layer with the files of another, of which none has a time
// later than latest: that one itself, if it has none. Otherwise the files are
// copied, since the layer's own belong to the images and builds that use it,
// and the copy is remembered. The lease keeps what is returned.
func (s *Store) Clamped(ctx context.Context, l *Lease, layer string, latest time.Time) (string, error) {
	name := layers.Target(s.root, layer)
	if ok, _, err := l.Have(ctx, name); err != nil {
		return "", err
	} else if !ok {
		return "", fmt.Errorf("layer %s: %w", layer, ErrNoLayer)
	}
	note := filepath.Join(s.layerPath(name), fmt.Sprintf("epoch-%d.json", latest.UnixNano()))
	if have, ok, err := s.clampedBefore(ctx, l, note); ok || err != nil {
		return have, err
	}
	newer, err := newerThan(ctx, s.LayerDir(name), latest)
	if err != nil {
		return "", s.trouble(err)
	}
	if !newer {
		return layer, nil
	}
	copied, err := s.clamp(ctx, l, name, latest)
	if err != nil {
		return "", err
	}
	step.At("clamp.made")
	return copied, s.trouble(atomicfile.WriteJSON(note, clamped{layerVersion, copied}, 0o600, false))
}

// clampedBefore reads a note. One that is torn, or about a layer that is gone,
// says nothing.
func (s *Store) clampedBefore(ctx context.Context, l *Lease, note string) (string, bool, error) {
	data, err := os.ReadFile(note)
	var c clamped
	if err != nil || json.Unmarshal(data, &c) != nil || c.Version != layerVersion || !layers.IsName(c.Name) {
		return "", false, nil
	}
	ok, _, err := l.Have(ctx, c.Name)
	return c.Name, ok, err
}

// clamp copies a layer by way of an archive, which is what an image has of it.
func (s *Store) clamp(ctx context.Context, l *Lease, name string, latest time.Time) (string, error) {
	r, w := io.Pipe()
	defer r.Close()
	go func() {
		w.CloseWithError(archive.Create(ctx, w, s.LayerDir(name), &archive.CreateOptions{Overlay: true, MaxTime: latest}))
	}()
	st, err := s.stage(ctx, l, r, nil)
	if err != nil {
		return "", err
	}
	defer st.remove()
	copied, _, err := s.AdoptLayer(ctx, l, st.dir)
	return copied, err
}
