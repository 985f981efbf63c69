package solve

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/amphora-go/amphora/internal/build/cache"
	"github.com/amphora-go/amphora/internal/store"
)

// Remote is a cache elsewhere, which is asked for what the cache here does not
// know. It is safe for concurrent use. A remote that cannot be reached knows
// nothing; it says so where its user reads it.
type Remote interface {
	// Find returns the record of the result that a key led to. Its Layers name
	// layers that are not here: they are fetched when somebody looks into them.
	Find(ctx context.Context, key string) (*cache.Record, bool)
	// Fetch makes the layers of a record that Find returned, kept by the lease,
	// and returns their names, bottom to top. It is false if the remote does not
	// have them: then the operation is executed.
	Fetch(ctx context.Context, l *store.Lease, id string) ([]string, bool, error)
}

// remotely asks the remote cache by a key of one output, and takes over what it
// says.
func (j *job) remotely(ctx context.Context, key string) (string, bool, error) {
	if j.b.opts.Remote == nil {
		return "", false, nil
	}
	r, ok := j.b.opts.Remote.Find(ctx, key)
	if !ok {
		return "", false, nil
	}
	if _, known, err := j.b.opts.Cache.Get(r.ID); err != nil {
		return "", false, err
	} else if !known {
		if err := j.b.opts.Cache.Put(r); err != nil {
			return "", false, err
		}
	}
	return r.ID, true, j.b.opts.Cache.Link(key, r.ID)
}

// fetch brings the layers of a result from the remote cache. The lock of the
// operation is held.
func (j *job) fetch(ctx context.Context, id string) ([]string, bool, error) {
	if j.b.opts.Remote == nil || j.v.NoCache {
		return nil, false, nil
	}
	r, ok, err := j.b.opts.Cache.Get(id)
	if !ok || err != nil {
		return nil, false, err
	}
	layers, ok, err := j.b.opts.Remote.Fetch(ctx, j.b.lease, id)
	if !ok || err != nil {
		return nil, false, err
	}
	r.Layers, r.Virtual = layers, false
	return layers, true, j.b.opts.Cache.Put(r)
}

// Known is a result of a build with the keys that led to it.
type Known struct {
	Keys   []string
	Record *cache.Record
}

// known collects the keys of a build's results.
type known struct {
	mu   sync.Mutex
	keys map[string][]string // by id
}

func (k *known) note(key, id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys == nil {
		k.keys = map[string][]string{}
	}
	if !slices.Contains(k.keys[id], key) {
		k.keys[id] = append(k.keys[id], key)
	}
}

// Known returns all results of which the build knows the keys, in the order of
// their ids, for another cache to keep. Those that were read of build contexts
// that have changed meanwhile are not among them.
func (b *Build) Known(ctx context.Context) ([]Known, error) {
	if err := b.settle(ctx); err != nil {
		return nil, err
	}
	b.knows.mu.Lock()
	defer b.knows.mu.Unlock()
	var all []Known
	for _, id := range slices.Sorted(maps.Keys(b.knows.keys)) {
		r, ok, err := b.opts.Cache.Get(id)
		if err != nil {
			return nil, err
		}
		if ok {
			all = append(all, Known{Keys: slices.Sorted(slices.Values(b.knows.keys[id])), Record: r})
		}
	}
	return all, nil
}
