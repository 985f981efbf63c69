package cache

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/store"
)

// A slot is a directory that builds write to and find again: one copy of a cache
// mount, or what a source keeps. Those of one name lie in one directory, called
// 0, 1 and so on, each with its lock beside it. Nothing in a slot is synced while
// it is in use, so its mark says that until Sync takes it away.

// slotInfo is the file mount.json of a slot.
type slotInfo struct {
	Version int       `json:"version"`
	Key     string    `json:"key"` // as the user named it
	Created time.Time `json:"created"`
	Used    time.Time `json:"used"`
	Uses    int       `json:"uses"`
}

const slotFile = "mount.json"

// Dir is a cache mount, or another directory that is kept for builds, in use.
type Dir struct {
	c    *Cache
	dir  string
	lock *flock.Lock
	info slotInfo
	note string // in the mark of this use
	once sync.Once
	err  error
}

// Path is the directory to mount or to write to.
func (d *Dir) Path() string { return filepath.Join(d.dir, "data") }

// File holds the lock that keeps others from pruning the directory, and from
// using it where that is forbidden. A process that gets a copy shares the lock.
func (d *Dir) File() *os.File { return d.lock.File() }

// Close ends the use, and notes its time. It is idempotent.
func (d *Dir) Close() error {
	d.once.Do(func() {
		d.info.Used = time.Now()
		d.info.Uses++
		// Of several users at once the last one is written: a count is no money.
		d.err = errors.Join(d.c.write(filepath.Join(d.dir, slotFile), d.info), d.lock.Release())
		d.c.mu.Lock()
		d.c.slots[d.dir] = d.note
		d.c.mu.Unlock()
		d.c.grown.Add(1) // how much it grew is not known before somebody looks
	})
	return d.err
}

// readSlot returns what is known about a slot. The bool is false when it is not
// complete, or cannot be trusted since the machine lost power.
func readSlot(dir string) (slotInfo, bool, error) {
	var info slotInfo
	data, err := os.ReadFile(filepath.Join(dir, slotFile))
	if err != nil {
		if absent(err) {
			err = nil
		}
		return info, false, err
	}
	if stale, err := store.Stale(dir); err != nil || stale {
		return info, false, err
	}
	ok := json.Unmarshal(data, &info) == nil && info.Version == version
	return info, ok, nil
}

// enter uses the slot at dir, which is made when it is missing. take takes its
// lock in the mode wanted.
func (c *Cache) enter(ctx context.Context, dir, key string, mode flock.Mode, take func(string, flock.Mode) (*flock.Lock, error), seed func(string) error) (*Dir, error) {
	for {
		l, err := take(dir+".lock", mode)
		if err != nil {
			return nil, err
		}
		info, ok, err := readSlot(dir)
		if err == nil && !ok && mode == flock.Exclusive {
			info, err = c.make(dir, key, seed)
			ok = true
		}
		var note string
		if err == nil && ok {
			note, err = c.markSlot(dir)
		}
		if err != nil {
			l.Release()
			return nil, c.slotErr(err)
		}
		if ok {
			return &Dir{c: c, dir: dir, lock: l, info: info, note: note}, nil
		}
		// Somebody must make it, alone. A lock cannot become an exclusive one
		// without a moment at which nobody holds it, so it is another's turn.
		l.Release()
		l, err = c.acquire(ctx, dir+".lock", flock.Exclusive)
		if err != nil {
			return nil, err
		}
		if _, ok, err = readSlot(dir); err == nil && !ok {
			_, err = c.make(dir, key, seed)
		}
		l.Release()
		if err != nil {
			return nil, c.slotErr(err)
		}
	}
}

// make makes a slot: it gets its name when it is complete. The lock is held
// exclusively. What a killed process left is thrown away.
func (c *Cache) make(dir, key string, seed func(string) error) (info slotInfo, err error) {
	half := dir + ".new"
	for _, d := range []string{half, dir} {
		if err := os.RemoveAll(d); err != nil {
			return info, err
		}
	}
	data := filepath.Join(half, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return info, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(half)
		}
	}()
	step.At("mount.begun")
	if seed != nil {
		if err := seed(data); err != nil {
			return info, seedErr{err}
		}
	}
	now := time.Now()
	info = slotInfo{Version: version, Key: key, Created: now, Used: now}
	if err := c.write(filepath.Join(half, slotFile), info); err != nil {
		return info, err
	}
	if err := c.s.MarkPending(half, ""); err != nil {
		return info, err
	}
	step.At("mount.seeded")
	if err := os.Rename(half, dir); err != nil {
		return info, err
	}
	step.At("mount.renamed")
	return info, nil
}

// markSlot says that what is in the slot is not on disk from now on, with a
// word of our own, so that nobody who synced before takes the mark away.
func (c *Cache) markSlot(dir string) (note string, err error) {
	var b [8]byte
	rand.Read(b[:])
	note = hex.EncodeToString(b[:])
	return note, c.s.MarkPending(dir, note)
}

// settleSlot takes the mark of a slot away if it still is the one that was there
// before the sync. Somebody who uses the slot now takes care of it himself.
func (c *Cache) settleSlot(dir, note string) {
	l, err := flock.Try(dir+".lock", flock.Exclusive)
	if err != nil {
		return
	}
	defer l.Release()
	mark := filepath.Join(dir, "pending")
	if data, err := os.ReadFile(mark); err == nil && strings.HasSuffix(strings.TrimSpace(string(data)), " "+note) {
		os.Remove(mark)
	}
}

// seedErr is what the caller's function returned: no trouble of the store.
type seedErr struct{ error }

func (c *Cache) slotErr(err error) error {
	var s seedErr
	if errors.As(err, &s) {
		return s.error
	}
	return c.s.Trouble(err)
}

// numbers lists the slots of a name.
func numbers(at string) ([]int, error) {
	entries, err := os.ReadDir(at)
	if err != nil {
		if absent(err) {
			err = nil
		}
		return nil, err
	}
	var list []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && n >= 0 && strconv.Itoa(n) == e.Name() {
			list = append(list, n)
		}
	}
	return list, nil
}
