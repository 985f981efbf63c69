package cache

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
)

// Dir begins the use of the cache mount called id, which may be any string.
// sharing is one of op.Shared, which is also the default, op.Private and
// op.Locked:
//
//   - shared: all users at once have the same directory;
//   - locked: one user after the other has it. Shared ones wait as well;
//   - private: each user has a directory that nobody else uses. One that is
//     free is taken again, so they are never more than users at once.
//
// seed, if not nil, fills the directory when it is made, once for all processes.
// Its error is returned as it is, and nothing is left then. A directory without
// seed is empty and belongs to root, mode 0755. The caller closes the result.
// While it is open it is not pruned.
func (c *Cache) Dir(ctx context.Context, id, sharing string, seed func(dir string) error) (*Dir, error) {
	at := c.path("mounts", hashed(id))
	return c.share(ctx, at, id, sharing, seed)
}

func (c *Cache) share(ctx context.Context, at, id, sharing string, seed func(string) error) (*Dir, error) {
	wait := func(path string, mode flock.Mode) (*flock.Lock, error) { return c.acquire(ctx, path, mode) }
	first := filepath.Join(at, "0")
	switch sharing {
	case "", op.Shared:
		return c.enter(ctx, first, id, flock.Shared, wait, seed)
	case op.Locked:
		return c.enter(ctx, first, id, flock.Exclusive, wait, seed)
	case op.Private:
		return c.private(ctx, at, id, seed)
	}
	return nil, fault.Invalid("cache mount %q: sharing %q is unknown: want shared, private or locked", id, sharing)
}

// private takes the first slot that is free: of those that are there, else a
// new one.
func (c *Cache) private(ctx context.Context, at, id string, seed func(string) error) (*Dir, error) {
	try := func(path string, mode flock.Mode) (*flock.Lock, error) {
		return c.lock(path, func() (*flock.Lock, error) { return flock.Try(path, mode) })
	}
	have, err := numbers(at)
	if err != nil {
		return nil, c.s.Trouble(err)
	}
	slices.Sort(have)
	for i := range len(have) + maxPrivate {
		n := i - len(have)
		if i < len(have) {
			n = have[i]
		} else if slices.Contains(have, n) {
			continue
		}
		d, err := c.enter(ctx, filepath.Join(at, strconv.Itoa(n)), id, flock.Exclusive, try, seed)
		if !errors.Is(err, flock.ErrHeld) {
			return d, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return nil, fault.Kind(fault.ErrInUse, "cache mount %q: %d private directories are in use; wait for the builds that use them", id, maxPrivate)
}

// maxPrivate ends a search that something must be wrong with.
const maxPrivate = 10000

// SourceDir begins the use of a directory in which a kind of source (http, git,
// local and the like: lower-case letters) keeps what key stands for between
// builds. One user after the other has it. It is empty at first; what is in it
// survives a crash of the program, but may be torn after it, and is gone after
// a loss of power during a build.
func (c *Cache) SourceDir(ctx context.Context, kind, key string) (*Dir, error) {
	if kind == "" || strings.Trim(kind, "abcdefghijklmnopqrstuvwxyz") != "" {
		return nil, fault.Invalid("kind of source %q: want lower-case letters", kind)
	}
	return c.share(ctx, c.path("sources", kind, hashed(key)), key, op.Locked, nil)
}
