package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/step"
)

// Lease keeps what it names from the collector until it is closed or its
// process ends. Safe for concurrent use.
//
// The order is what makes it safe: first lease, then ask whether the thing
// exists. The collector marks while nobody writes a lease, so whatever exists
// after Add stays.
type Lease struct {
	s    *Store
	id   string
	lock *flock.Lock

	mu     sync.Mutex // guards what follows
	names  map[string]bool
	there  map[string]bool // layers that Have found: leased, they stay
	dir    string
	closed bool
}

// layerName is how a lease names an unpacked layer.
func layerName(chain string) string { return "layer:" + chain }

// Lease begins a lease. It must be closed.
func (s *Store) Lease(ctx context.Context) (*Lease, error) {
	if err := s.Init(); err != nil {
		return nil, err
	}
	gc, err := flock.Acquire(ctx, s.path("gc.lock"), flock.Shared)
	if err != nil {
		return nil, s.lockTrouble(ctx, err)
	}
	defer gc.Release()
	l := &Lease{s: s, id: randomID(), names: map[string]bool{}}
	l.lock, err = flock.Try(l.path()+".lock", flock.Exclusive)
	if err != nil {
		return nil, s.trouble(err)
	}
	return l, nil
}

// lockTrouble tells the end of the caller's context from a broken store.
func (s *Store) lockTrouble(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.trouble(err)
}

func (l *Lease) path() string { return l.s.path("leases", l.id) }

// Add leases blobs.
func (l *Lease) Add(ctx context.Context, blobs ...digest.Digest) error {
	names := make([]string, len(blobs))
	for i, d := range blobs {
		if err := CheckDigest(d); err != nil {
			return err
		}
		names[i] = string(d)
	}
	return l.add(ctx, names)
}

// AddLayers leases unpacked layers by their chain ids.
func (l *Lease) AddLayers(ctx context.Context, chains ...string) error {
	names := make([]string, len(chains))
	for i, c := range chains {
		names[i] = layerName(c)
	}
	return l.add(ctx, names)
}

// AddImage leases all that an image consists of.
func (l *Lease) AddImage(ctx context.Context, img *Image) error {
	names := []string{string(img.Manifest), string(img.ID)}
	for _, layer := range img.Layers {
		names = append(names, string(layer.Blob.Digest), layerName(layer.Chain))
	}
	return l.add(ctx, names)
}

func (l *Lease) add(ctx context.Context, names []string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errors.New("lease is closed")
	}
	var text strings.Builder
	for _, n := range names {
		if !l.names[n] {
			text.WriteString(n + "\n")
		}
	}
	if text.Len() == 0 {
		return nil
	}
	gc, err := flock.Acquire(ctx, l.s.path("gc.lock"), flock.Shared)
	if err != nil {
		return l.s.lockTrouble(ctx, err)
	}
	defer gc.Release()
	f, err := os.OpenFile(l.path(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return l.s.trouble(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text.String()); err != nil {
		return l.s.trouble(err)
	}
	if err := f.Close(); err != nil {
		return l.s.trouble(err)
	}
	for _, n := range names {
		l.names[n] = true
	}
	step.At("lease.written")
	return nil
}

// Dir is a directory for this lease's working files. It goes with the lease.
func (l *Lease) Dir() (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return "", errors.New("lease is closed")
	}
	if l.dir == "" {
		dir := l.s.path("tmp", l.id)
		if err := os.Mkdir(dir, 0o700); err != nil {
			return "", l.s.trouble(err)
		}
		l.dir = dir
	}
	return l.dir, nil
}

// Close ends the lease and removes its working files. It is idempotent.
func (l *Lease) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	var errs []error
	if l.dir != "" {
		errs = append(errs, removeTree(l.dir))
	}
	if err := os.Remove(l.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	// The lock file goes last, and on Windows only once it is closed.
	os.Remove(l.path() + ".lock")
	errs = append(errs, l.lock.Release())
	os.Remove(l.path() + ".lock")
	return l.s.trouble(errors.Join(errs...))
}
