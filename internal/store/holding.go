package store

import (
	"context"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/flock"
)

// Holding is what lies in the store at one moment, with sizes in bytes.
type Holding struct {
	Blobs  map[digest.Digest]int64
	Layers map[string]int64 // by chain id: the content of their files
	// Partial is unfinished downloads, Working what operations have in hand or
	// left behind, trash included.
	Partial, Working int64

	// NeededBlobs and NeededLayers have a name, container or live lease that
	// needs them; Leased are those, layers as "layer:CHAIN", of live leases.
	NeededBlobs  map[digest.Digest]bool
	NeededLayers map[string]bool
	Leased       map[string]bool
}

// Size is all of it.
func (h *Holding) Size() int64 {
	n := h.Partial + h.Working
	for b := range maps.Values(h.Blobs) {
		n += b
	}
	for l := range maps.Values(h.Layers) {
		n += l
	}
	return n
}

// Garbage is what Collect would take: what nothing needs.
func (h *Holding) Garbage() int64 {
	var n int64
	for d, size := range h.Blobs {
		if !h.NeededBlobs[d] {
			n += size
		}
	}
	for c, size := range h.Layers {
		if !h.NeededLayers[c] {
			n += size
		}
	}
	return n
}

// Holding takes stock. What is needed is judged as if the names that without
// says, if it is not nil, were gone. Nothing is changed.
func (s *Store) Holding(ctx context.Context, without func(*Name) bool) (*Holding, error) {
	if err := s.Init(); err != nil {
		return nil, err
	}
	gc, err := flock.Acquire(ctx, s.path("gc.lock"), flock.Exclusive)
	if err != nil {
		return nil, s.lockTrouble(ctx, err)
	}
	defer gc.Release()
	m, err := s.mark(&CollectOptions{}, without)
	if err != nil {
		return nil, err
	}
	leased := s.noMarks()
	if err := leased.leases(); err != nil {
		return nil, err
	}
	h := &Holding{Blobs: map[digest.Digest]int64{}, Layers: map[string]int64{}, NeededBlobs: m.blobs, NeededLayers: m.layers, Leased: map[string]bool{}}
	for d := range leased.blobs {
		h.Leased[string(d)] = true
	}
	for c := range leased.layers {
		h.Leased[layerName(c)] = true
	}
	gc.Release() // sizes may be those of a moment later
	return h, s.trouble(h.measure(s))
}

func (h *Holding) measure(s *Store) error {
	entries, err := os.ReadDir(s.path("blobs", "sha256"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && isHex(e.Name()) {
			h.Blobs[digest.Digest("sha256:"+e.Name())] = info.Size()
		}
	}
	if entries, err = os.ReadDir(s.path("layers")); err != nil {
		return err
	}
	for _, e := range entries {
		if !isHex(e.Name()) {
			continue
		}
		h.Layers[e.Name()] = s.layerSize(e.Name())
	}
	if h.Partial, err = treeSize(s.path("blobs", "partial")); err != nil {
		return err
	}
	for _, dir := range []string{"tmp", "trash", "uploads"} {
		n, err := treeSize(s.path(dir))
		if err != nil {
			return err
		}
		h.Working += n
	}
	return nil
}

// layerSize is 0 for a layer whose tree is another's.
func (s *Store) layerSize(chain string) int64 {
	if st, err := os.Lstat(s.LayerDir(chain)); err == nil && st.Mode()&fs.ModeSymlink != 0 {
		return 0
	}
	if m, ok, err := s.Layer(chain); ok && err == nil {
		return m.Size
	}
	n, _ := treeSize(s.layerPath(chain)) // torn or damaged, but it takes its space
	return n
}

// treeSize is the length of the files below dir. What goes meanwhile is fine.
func treeSize(dir string) (int64, error) {
	var n int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return ignoreGone(err)
		}
		info, err := d.Info()
		if err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
		return ignoreGone(err)
	})
	return n, err
}

func ignoreGone(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// Reached lists the blobs and layers that manifests or indexes refer to,
// whether they are there or not.
func (s *Store) Reached(documents ...digest.Digest) (map[digest.Digest]bool, map[string]bool) {
	m := s.noMarks()
	for _, d := range documents {
		m.document(d, 0) // what cannot be read has nothing to say here
	}
	return m.blobs, m.layers
}
