// Package flock locks files between processes.
//
// Rules (they keep a live container from looking dead): lock files are never
// unlinked while their object exists; after locking, the descriptor and the
// path must name the same inode, else the lock is taken again; every held
// lock is kept in a package-level table, since a collected *os.File would
// silently drop its flock; waiting polls with back-off under the context.
package flock

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"
)

// Mode is how a lock is held.
type Mode int

const (
	Shared Mode = iota
	Exclusive
)

// ErrHeld is returned by Try when another process, or another descriptor of
// this one, holds the lock.
var ErrHeld = errors.New("lock is held")

// Lock is a held flock. It is safe for concurrent use.
type Lock struct {
	f    *os.File
	path string
}

var (
	mu   sync.Mutex // guards held
	held = map[*Lock]struct{}{}
)

func keep(l *Lock) *Lock {
	mu.Lock()
	held[l] = struct{}{}
	mu.Unlock()
	return l
}

// Try takes the lock or returns ErrHeld at once. The file is created when
// missing; its directory must exist.
func Try(path string, mode Mode) (*Lock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := lock(f, mode); err != nil {
			f.Close()
			return nil, err
		}
		same, err := sameFile(f, path)
		if err != nil {
			f.Close()
			return nil, err
		}
		if same {
			return keep(&Lock{f: f, path: path}), nil
		}
		f.Close() // replaced between open and lock: take the new one
	}
}

// Acquire waits for the lock until ctx ends.
func Acquire(ctx context.Context, path string, mode Mode) (*Lock, error) {
	wait := 200 * time.Microsecond
	for {
		l, err := Try(path, mode)
		if !errors.Is(err, ErrHeld) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
		if wait < 20*time.Millisecond {
			wait *= 2
		}
	}
}

// Held reports whether somebody holds the lock exclusively. A missing file is
// not held. It takes the lock shared for an instant.
func Held(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = lock(f, Shared)
	if errors.Is(err, ErrHeld) {
		return true, nil
	}
	return false, err
}

// Adopt wraps an inherited descriptor that already holds its lock.
func Adopt(f *os.File) *Lock { return keep(&Lock{f: f, path: f.Name()}) }

// File is the locked descriptor, to be passed to a child process. The lock
// lives as long as any copy of the descriptor.
func (l *Lock) File() *os.File { return l.f }

// Release closes this descriptor. The lock itself goes with the last copy.
// It is idempotent.
func (l *Lock) Release() error {
	if l == nil {
		return nil
	}
	mu.Lock()
	_, ok := held[l]
	delete(held, l)
	mu.Unlock()
	if !ok {
		return nil
	}
	return l.f.Close()
}

func sameFile(f *os.File, path string) (bool, error) {
	a, err := f.Stat()
	if err != nil {
		return false, err
	}
	b, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return os.SameFile(a, b), nil
}
