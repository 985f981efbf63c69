package cache

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/amphora-go/amphora/internal/flock"
)

const (
	// forgetAfter is how long a key, and a record without layers, is of use: who
	// builds something less often than once in a month may wait for it.
	forgetAfter = 30 * 24 * time.Hour
	// tidyEvery is how often what is not needed is looked for.
	tidyEvery = 24 * time.Hour
	// abandoned is how old a file is that somebody cannot be writing any more, or
	// a key whose record cannot be about to be written.
	abandoned = time.Hour
)

// tidied is the file of that name.
type tidied struct {
	Version int       `json:"version"`
	At      time.Time `json:"at"`
	Cap     int64     `json:"cap"` // that was in force
}

// Cap is called after each build, when its lease is closed. It makes what the
// build made survive a loss of power (see Sync), and, if the cache takes up more
// than limit bytes on disk, gives up what was not used for the longest time. What
// images share does not count; nor do small files. What running builds use is not
// given up, so that it may be more until they end. A limit of 0 is none.
//
// It costs next to nothing after a build that added nothing.
func (c *Cache) Cap(ctx context.Context, limit int64) (*Pruned, error) {
	c.Sync()
	grown := c.grown.Swap(0)
	var last tidied
	if data, err := os.ReadFile(c.path("tidied.json")); err != nil || json.Unmarshal(data, &last) != nil || last.Version != version {
		last = tidied{}
	}
	since := time.Since(last.At)
	due := since > tidyEvery || since < 0
	if !due && (grown == 0 || limit <= 0) && last.Cap == limit {
		return &Pruned{}, nil
	}
	out := &Pruned{}
	var err error
	if limit > 0 {
		if out, err = c.prune(ctx, &PruneOptions{Keep: limit}); err != nil {
			c.grown.Add(grown) // the next Cap tries again
			return out, err
		}
	}
	if due {
		if err := c.Tidy(ctx); err != nil {
			return out, err
		}
		last.At = time.Now()
	}
	return out, c.write(c.path("tidied.json"), tidied{Version: version, At: last.At, Cap: limit})
}

// Tidy deletes what no build will look at again: locks that nobody holds, keys
// of records that are gone, records without layers and keys that were not used
// for a month, and what killed processes left.
func (c *Cache) Tidy(ctx context.Context) error {
	for _, f := range []func(context.Context) error{c.tidyRecords, c.tidyKeys, c.tidyLocks, c.tidySlots} {
		if err := f(ctx); err != nil {
			return c.s.Trouble(err)
		}
	}
	return nil
}

// each calls f with the path of each file in the directories of dir.
func (c *Cache) each(ctx context.Context, dir string, f func(path string) error) error {
	shards, err := names(dir)
	if err != nil {
		return err
	}
	for _, shard := range shards {
		if err := ctx.Err(); err != nil {
			return err
		}
		files, err := names(filepath.Join(dir, shard))
		if err != nil {
			return err
		}
		for _, name := range files {
			if err := f(filepath.Join(dir, shard, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// age is how long ago a file was written or used. It is 0 for what is not there.
func age(path string) time.Duration {
	info, err := os.Lstat(path)
	if err != nil {
		return 0
	}
	return time.Since(info.ModTime())
}

// remove deletes a file; that it is gone is fine.
func (c *Cache) remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return c.s.Trouble(err)
	}
	return nil
}

func (c *Cache) tidyRecords(ctx context.Context) error {
	return c.each(ctx, c.path("records"), func(path string) error {
		old := age(path)
		if old < abandoned {
			return nil
		}
		id, ok := strings.CutSuffix(filepath.Base(path), ".json")
		if !ok || check("record", id) != nil {
			return c.remove(path) // was being written, or is not ours
		}
		return c.replacing(ctx, func() error {
			if age(path) < abandoned {
				return nil // used meanwhile
			}
			r, ok, err := c.get(id)
			if err != nil {
				return err
			}
			if !ok {
				return c.remove(path)
			}
			if old < forgetAfter {
				return nil
			}
			if missing, err := c.s.MissingLayers(r.Layers); err != nil || len(missing) == 0 && !r.Virtual {
				return err
			}
			return c.remove(path)
		})
	})
}

func (c *Cache) tidyKeys(ctx context.Context) error {
	return c.each(ctx, c.path("keys"), func(path string) error {
		old := age(path)
		if old < abandoned {
			return nil
		}
		key, ok := strings.CutSuffix(filepath.Base(path), ".json")
		if ok && old < forgetAfter && check("key", key) == nil {
			// Its file's time must stay, so it is not asked for by Find.
			var a alias
			data, err := os.ReadFile(path)
			if err == nil && json.Unmarshal(data, &a) == nil && check("record", a.ID) == nil {
				if _, err := os.Lstat(c.sharded("records", a.ID, ".json")); err == nil || !absent(err) {
					return nil
				}
			}
		}
		return c.remove(path)
	})
}

// tidyLocks deletes the lock files that nobody holds. Whoever waits for such a
// lock, or opened its file just now, finds that the file is not the one of that
// name any more and takes the new one.
func (c *Cache) tidyLocks(ctx context.Context) error {
	return c.each(ctx, c.path("locks"), func(path string) error {
		l, err := flock.Try(path, flock.Exclusive)
		if err != nil {
			return c.unlessHeld(err)
		}
		defer l.Release()
		return c.dropLock(path)
	})
}

// unlessHeld is for locks that are tried: another's is no error.
func (c *Cache) unlessHeld(err error) error {
	if errors.Is(err, flock.ErrHeld) || absent(err) {
		return nil
	}
	return c.s.Trouble(err)
}

// dropLock deletes the file of a lock that is held, and its directory if that
// is empty then.
func (c *Cache) dropLock(path string) error {
	if err := c.remove(path); err != nil {
		return err
	}
	os.Remove(filepath.Dir(path))
	return nil
}

// tidySlots deletes what was left of slots: those that were not made to the
// end, and locks without a slot.
func (c *Cache) tidySlots(ctx context.Context) error {
	kinds, err := names(c.path("sources"))
	if err != nil {
		return err
	}
	dirs := []string{c.path("mounts")}
	for _, kind := range kinds {
		dirs = append(dirs, c.path("sources", kind))
	}
	for _, dir := range dirs {
		err := c.each(ctx, dir, func(path string) error {
			if slot, ok := strings.CutSuffix(path, ".lock"); ok {
				return c.tidySlot(slot)
			}
			if strings.HasPrefix(filepath.Base(path), tempPrefix) && age(path) > abandoned {
				return c.remove(path)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Cache) tidySlot(slot string) error {
	l, err := flock.Try(slot+".lock", flock.Exclusive)
	if err != nil {
		return c.unlessHeld(err)
	}
	defer l.Release()
	if err := c.s.Trash(slot + ".new"); err != nil {
		return err
	}
	_, ok, err := readSlot(slot)
	if err != nil || ok {
		return err
	}
	if err := c.s.Trash(slot); err != nil {
		return err
	}
	return c.dropLock(slot + ".lock")
}
