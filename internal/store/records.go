package store

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

// BuildRecord is what keeps content for builds: the part of a record of
// internal/build/cache that the collector reads.
type BuildRecord struct {
	// Layers are the names of layers, bottom to top.
	Layers []string `json:"layers"`
	// Image is the digest of the manifest of the image that they came with, if
	// they did: its blobs are kept as well.
	Image digest.Digest `json:"image"`
	// Virtual says that the record keeps nothing: its content was given up.
	Virtual bool `json:"virtual"`
}

// BuildRecords is the directory of the records of builds. Each is a JSON file
// HH/NAME.json, where HH are the first two digits of NAME.
func (s *Store) BuildRecords() string { return s.path("build", "records") }

// records marks what records of builds keep. One that cannot be read keeps
// nothing: what it stood for is made again when a build needs it. A layer that
// was not synced before the machine went down is of no use to anybody.
func (m *marks) records() error {
	return EachBuildRecord(m.s.BuildRecords(), func(_ string, data []byte) error {
		var r BuildRecord
		if json.Unmarshal(data, &r) != nil || r.Virtual {
			return nil
		}
		for _, name := range r.Layers {
			if m.layers[name] || !isHex(name) {
				continue
			}
			if state, err := m.s.pending(name); err == nil && state == pendingStale {
				continue
			}
			m.layers[name] = true
		}
		if r.Image == "" {
			return nil
		}
		return m.document(r.Image, 0)
	})
}

// EachBuildRecord calls f with the path and content of all records below dir.
// Those that vanish meanwhile are left out.
func EachBuildRecord(dir string, f func(path string, data []byte) error) error {
	shards, err := readDir(dir)
	if err != nil {
		return err
	}
	for _, shard := range shards {
		files, err := readDir(filepath.Join(dir, shard.Name()))
		if err != nil {
			return err
		}
		for _, e := range files {
			if filepath.Ext(e.Name()) != ".json" {
				continue // being written
			}
			path := filepath.Join(dir, shard.Name(), e.Name())
			data, err := os.ReadFile(path)
			if err != nil {
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				return err
			}
			if err := f(path, data); err != nil {
				return err
			}
		}
	}
	return nil
}

// readDir lists a directory; one that is not there is empty.
func readDir(dir string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err != nil && isNotDir(err) {
		return nil, nil
	}
	return entries, err
}
