package cache

import (
	"context"
	"os"
	"path/filepath"
	"sync"

	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/store"
)

// Layer is a layer that is being made, among the working files of a lease.
type Layer struct {
	c   *Cache
	dir string

	// Upper and Work are for an overlay mount, or, with nothing below, Upper for
	// whoever writes the tree. Neither exists at first: the overlay makes Upper
	// like the root of the tree below it; without one, whoever writes makes it.
	Upper, Work string

	mu   sync.Mutex
	done bool
}

// NewLayer begins a layer. Publish or Discard it; what neither happens to goes
// with the lease.
func (c *Cache) NewLayer(l *store.Lease) (*Layer, error) {
	work, err := l.Dir()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(work, "layer-")
	if err != nil {
		return nil, c.s.Trouble(err)
	}
	y := &Layer{c: c, dir: dir, Upper: filepath.Join(dir, "layer", "diff"), Work: filepath.Join(dir, "work")}
	// The overlay's mount of an unpacked layer traverses its directory as
	// another user when ids are mapped.
	if err := os.Mkdir(filepath.Join(dir, "layer"), 0o755); err != nil {
		return nil, c.s.Trouble(err)
	}
	return y, nil
}

// finish reports whether the layer is still to be published or discarded.
func (y *Layer) finish() bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	first := !y.done
	y.done = true
	return first
}

// Publish makes the layer part of the store. It returns its name, which the
// lease holds, and the size of its regular files in bytes. Nothing may be
// mounted on it or be written to it any more. A layer without Upper is empty.
func (y *Layer) Publish(ctx context.Context, l *store.Lease) (name string, size int64, err error) {
	if !y.finish() {
		return "", 0, os.ErrClosed
	}
	step.At("layer.written")
	name, m, err := y.c.s.AdoptLayer(ctx, l, filepath.Join(y.dir, "layer"))
	if err != nil {
		return "", 0, err
	}
	y.c.grown.Add(m.Disk)
	y.c.unsynced(name)
	// What is left is the overlay's. It also goes with the lease.
	return name, m.Size, y.c.s.Trouble(os.RemoveAll(y.dir))
}

// Discard throws the layer away. After Publish it does nothing.
func (y *Layer) Discard() error {
	if !y.finish() {
		return nil
	}
	return y.c.s.Trouble(os.RemoveAll(y.dir))
}

// Present leases layers, then reports whether all are there and can be trusted.
// Under that lease they stay.
func (c *Cache) Present(ctx context.Context, l *store.Lease, layers []string) (bool, error) {
	all, unsynced, err := l.Have(ctx, layers...)
	if len(unsynced) > 0 { // by a build that was killed, or is not over
		c.unsynced(unsynced...)
	}
	return all, err
}

// unsynced notes layers for the next Sync.
func (c *Cache) unsynced(names ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fresh = append(c.fresh, names...)
}
