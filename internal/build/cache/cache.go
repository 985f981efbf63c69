// Package cache keeps what builds have made, so that no build makes it again:
//
//	Root/build/records/HH/ID.json   what a result is: its layers and where they are from, see Record
//	Root/build/keys/HH/KEY.json     the id of the record that a key stands for
//	Root/build/locks/HH/KEY         held by whoever executes what the key stands for
//	Root/build/mounts/HASH/N/       a cache mount: data/, mount.json;  N.lock beside it
//	Root/build/sources/KIND/HASH/0/ what sources keep between builds, likewise
//	Root/build/records.lock         held while a record is replaced
//	Root/build/tidied.json          when what nobody needs was last looked for
//
// Nothing here is synced, and nothing needs to be: a file that is lost, torn or
// of another version is a result that is not there. HH are the first two digits
// of what follows. The layers themselves are the store's, see internal/store;
// a record that is not virtual keeps them.
//
// Any number of processes work on it at once. Lock order: a key's lock, then a
// cache mount's, then the locks of the store, then records.lock.
package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/layers"
	"github.com/amphora-go/amphora/internal/store"
)

// version is that of every file of this package. Others are not read.
const version = 1

// Cache is the cache of a Root. It is safe for concurrent use.
type Cache struct {
	s *store.Store

	grown atomic.Int64 // bytes that this process added since Cap looked

	mu    sync.Mutex
	fresh []string          // layers that are not known to be synced
	slots map[string]string // directories of mounts, with the marks that wait for a sync
}

// Open returns the cache of a store's Root. It does no I/O.
func Open(s *store.Store) *Cache {
	return &Cache{s: s, slots: map[string]string{}}
}

func (c *Cache) path(elem ...string) string {
	return filepath.Join(append([]string{c.s.Root(), "build"}, elem...)...)
}

// sharded is the file of a name of 64 hexadecimal digits.
func (c *Cache) sharded(kind, name, suffix string) string {
	return c.path(kind, name[:2], name+suffix)
}

// check refuses what cannot be a file name of ours.
func check(what, name string) error {
	if !layers.IsName(name) {
		return fault.Invalid("%s %q: want 64 lower-case hexadecimal digits", what, name)
	}
	return nil
}

func hashed(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// absent tells a file that is not there from trouble.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// write replaces a file. The directory is made when it is missing. A reader
// sees the old content or the new, but after a power loss it may be torn.
func (c *Cache) write(path string, v any) error { return c.writeAt(path, v, time.Time{}) }

// writeAt is write of a file with the given time, unless that is zero.
func (c *Cache) writeAt(path string, v any, at time.Time) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp, err := c.temp(path)
	if err != nil {
		return c.s.Trouble(err)
	}
	_, err = tmp.Write(append(data, '\n'))
	if err == nil && !at.IsZero() {
		err = os.Chtimes(tmp.Name(), at, at)
	}
	if err := errors.Join(err, tmp.Close()); err != nil {
		os.Remove(tmp.Name())
		return c.s.Trouble(err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		os.Remove(tmp.Name())
		return c.s.Trouble(err)
	}
	return nil
}

// tempPrefix begins the names of files that are being written.
const tempPrefix = ".tmp-"

func (c *Cache) temp(path string) (*os.File, error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, tempPrefix)
	if !absent(err) {
		return f, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return os.CreateTemp(dir, tempPrefix)
}

// lock takes a lock whose directory may be missing. Prune deletes lock files
// that nobody holds, and then the directory: both are made again.
func (c *Cache) lock(path string, try func() (*flock.Lock, error)) (*flock.Lock, error) {
	for {
		l, err := try()
		if !absent(err) {
			return l, err
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, c.s.Trouble(err)
		}
	}
}

// acquire waits for a lock.
func (c *Cache) acquire(ctx context.Context, path string, mode flock.Mode) (*flock.Lock, error) {
	l, err := c.lock(path, func() (*flock.Lock, error) { return flock.Acquire(ctx, path, mode) })
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return l, c.s.Trouble(err)
}

// Lock waits for the right to execute what a key stands for: one execution for
// all processes. Whoever gets it looks for the result once more. Release it.
func (c *Cache) Lock(ctx context.Context, key string) (*flock.Lock, error) {
	if err := check("key", key); err != nil {
		return nil, err
	}
	return c.acquire(ctx, c.sharded("locks", key, ""), flock.Exclusive)
}
