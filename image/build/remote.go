package build

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/build/cache"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/layers"
	"github.com/amphora-go/amphora/internal/store"
)

// A cache that builds elsewhere can use is an image: its layers are what the
// results consist of, and a field of its configuration says by which keys they
// are found. It may be an image of its own, in a registry or in a directory
// with an OCI layout, or the image that was built (inline).

// remoteField is that field. BuildKit's caches have another format, so it is
// another name.
const remoteField = "io.github.amphora-go.cache"

const remoteVersion = 1

// remoteConfig is what the field holds.
type remoteConfig struct {
	Version int           `json:"version"`
	Entries []remoteEntry `json:"entries"`
}

// remoteEntry is one result.
type remoteEntry struct {
	ID          string    `json:"id"`
	Keys        []string  `json:"keys"`
	Kind        string    `json:"kind"`
	Description string    `json:"description,omitempty"`
	Parents     []string  `json:"parents,omitempty"`
	Created     time.Time `json:"created"`
	Content     string    `json:"content,omitempty"`
	Size        int64     `json:"size,omitempty"`
	// Layers are numbers of layers of the image, from the lowest. -1 is one that
	// it does not have: the result is known, its files are not.
	Layers []int `json:"layers,omitempty"`
}

// place is where a remote cache is.
type place interface {
	Layer(ctx context.Context, i int) (io.ReadCloser, error)
	Close()
}

// imported is a remote cache that a build uses.
type imported struct {
	name  string
	place place
	diffs []digest.Digest
	keys  map[string]*remoteEntry
	ids   map[string]*remoteEntry
}

// newImported reads the configuration of the image that a cache is.
func newImported(name string, config []byte, p place) (*imported, error) {
	var c struct {
		RootFS ocispec.RootFS `json:"rootfs"`
		Cache  *remoteConfig  `json:"io.github.amphora-go.cache"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, fault.Invalid("its configuration is no JSON: %w", err)
	}
	if c.Cache == nil {
		return nil, fault.Invalid("the image has no cache of this builder in it")
	}
	if c.Cache.Version != remoteVersion {
		return nil, fault.Unsupported("the cache has version %d, this program reads %d", c.Cache.Version, remoteVersion)
	}
	m := &imported{name: name, place: p, diffs: c.RootFS.DiffIDs, keys: map[string]*remoteEntry{}, ids: map[string]*remoteEntry{}}
	for i := range c.Cache.Entries {
		e := &c.Cache.Entries[i]
		if err := e.check(len(m.diffs)); err != nil {
			return nil, err
		}
		m.ids[e.ID] = e
		for _, k := range e.Keys {
			m.keys[k] = e
		}
	}
	return m, nil
}

// check refuses what somebody may have made up: ids become names of files.
func (e *remoteEntry) check(n int) error {
	for _, id := range append([]string{e.ID}, e.Parents...) {
		if !layers.IsName(id) {
			return fault.Invalid("the cache is malformed: %q is no id", id)
		}
	}
	for _, l := range e.Layers {
		if l < -1 || l >= n {
			return fault.Invalid("the cache is malformed: it has no layer %d", l)
		}
	}
	return nil
}

// record is the result without its layers: names that no layer has.
func (e *remoteEntry) record() *cache.Record {
	r := &cache.Record{ID: e.ID, Kind: e.Kind, Description: e.Description, Parents: e.Parents, Created: e.Created, Used: time.Now(),
		Content: e.Content, Size: e.Size, Virtual: true}
	for i := range e.Layers {
		r.Layers = append(r.Layers, digest.FromString(fmt.Sprintf("elsewhere %s %d", e.ID, i)).Encoded())
	}
	return r
}

// remotes are all caches that a request names. It is a solve.Remote.
type remotes struct {
	store *store.Store
	open  func(ctx context.Context) []*imported // asked when the first key is looked for

	once sync.Once
	all  []*imported
}

func (r *remotes) load(ctx context.Context) []*imported {
	r.once.Do(func() { r.all = r.open(ctx) })
	return r.all
}

// Find returns what a key led to, in the first cache that knows it.
func (r *remotes) Find(ctx context.Context, key string) (*cache.Record, bool) {
	for _, m := range r.load(ctx) {
		if e := m.keys[key]; e != nil {
			return e.record(), true
		}
	}
	return nil, false
}

// Fetch makes the layers of a result, of the first cache that has all of them.
func (r *remotes) Fetch(ctx context.Context, l *store.Lease, id string) ([]string, bool, error) {
	for _, m := range r.load(ctx) {
		e := m.ids[id]
		if e == nil {
			continue
		}
		names, ok, err := m.fetch(ctx, r.store, l, e)
		if ok || err != nil {
			return names, ok, err
		}
	}
	return nil, false, nil
}

func (m *imported) fetch(ctx context.Context, s *store.Store, l *store.Lease, e *remoteEntry) (names []string, ok bool, err error) {
	for _, i := range e.Layers {
		if i < 0 {
			return nil, false, nil
		}
		r, err := m.place.Layer(ctx, i)
		if err != nil {
			if ctx.Err() != nil || store.IsTrouble(err) {
				return nil, false, err
			}
			return nil, false, nil // it can be made
		}
		name, err := s.ReceiveLayer(ctx, l, r, m.diffs[i])
		r.Close()
		if err != nil {
			return nil, false, fmt.Errorf("cache %s: %w", m.name, err)
		}
		names = append(names, name)
	}
	return names, true, nil
}

func (r *remotes) Close() {
	for _, m := range r.all {
		m.place.Close()
	}
}

// withRemote puts a cache into the configuration of an image.
func withRemote(config []byte, c *remoteConfig) ([]byte, error) {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(config, &fields); err != nil {
		return nil, err
	}
	var err error
	if fields[remoteField], err = json.Marshal(c); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}
