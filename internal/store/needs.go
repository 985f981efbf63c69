package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/layers"
)

// Needs says what is needed by others than the records of builds.
type Needs struct {
	// Layers and Blobs are those of named images and of containers. A layer is
	// there by all its names.
	Layers map[string]bool
	Blobs  map[digest.Digest]bool
	// Leased are the layers that live leases name.
	Leased map[string]bool
}

// Needs looks who needs what at this moment.
func (s *Store) Needs(ctx context.Context) (*Needs, error) {
	if err := s.Init(); err != nil {
		return nil, err
	}
	kept := s.noMarks()
	if err := kept.names(nil); err != nil {
		return nil, err
	}
	if err := kept.containers(); err != nil {
		return nil, err
	}
	kept.targets()
	// Whoever makes a lease must not meet us while we ask whether it lives.
	gc, err := flock.Acquire(ctx, s.path("gc.lock"), flock.Exclusive)
	if err != nil {
		return nil, s.lockTrouble(ctx, err)
	}
	defer gc.Release()
	leased := s.noMarks()
	if err := leased.leases(); err != nil {
		return nil, err
	}
	leased.targets()
	return &Needs{Layers: kept.layers, Blobs: kept.blobs, Leased: leased.layers}, nil
}

// LayerDisk is what a layer's files take up on disk, in bytes. For a layer that
// came with an image it is measured once and remembered. A layer that is not
// there takes up nothing, and so does one that shares another's files.
func (s *Store) LayerDisk(ctx context.Context, name string) (int64, error) {
	m, _, ok, err := s.layer(name)
	if err != nil || !ok || m.Same != "" {
		return 0, err
	}
	if m.Disk > 0 {
		return m.Disk, nil
	}
	// Not synced: a torn file is no number, or too small a one.
	file := filepath.Join(s.layerPath(name), "disk")
	if data, err := os.ReadFile(file); err == nil {
		first, second, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
		if n, err := strconv.ParseInt(first, 10, 64); err == nil && n > 0 && first == second {
			return n, nil
		}
	}
	_, disk, err := Measure(ctx, filepath.Join(s.layerPath(name), "diff"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil // collected meanwhile
	}
	if err != nil {
		return 0, s.trouble(err)
	}
	atomicfile.Write(file, fmt.Appendf(nil, "%d %d\n", disk, disk), 0o600, false) // if not, it is measured again
	return disk, nil
}

// BlobSizes are the blobs of an image's layers, its config and its manifest
// that are in the store, with their sizes in bytes. Of an image that is not
// complete it is what is there.
func (s *Store) BlobSizes(manifest digest.Digest) map[digest.Digest]int64 {
	sizes := map[digest.Digest]int64{}
	add := func(d digest.Digest) {
		if n, ok := s.HasBlob(d); ok {
			sizes[d] = n
		}
	}
	add(manifest)
	if data, err := s.ReadBlob(manifest); err == nil {
		if img, _, err := ParseManifest(data); err == nil {
			add(img.ID)
			for _, l := range img.Layers {
				add(l.Blob.Digest)
			}
		}
	}
	return sizes
}

// Trash moves a file or directory of the Root out of sight. EmptyTrash, which
// Collect does as well, deletes it. What is not there is fine.
func (s *Store) Trash(path string) error {
	if err := s.Init(); err != nil {
		return err
	}
	err := os.Rename(path, s.path("trash", randomID()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return s.trouble(err)
}

// EmptyTrash deletes what was discarded, by whomever. What cannot be deleted is
// left for the next time.
func (s *Store) EmptyTrash(ctx context.Context) { s.emptyTrash(ctx) }

// targets marks the layers that have the files of those marked.
func (m *marks) targets() {
	for name := range m.layers {
		m.layers[layers.Target(m.s.root, name)] = true
	}
}
