// Package store keeps what every process of a Root shares: blobs, unpacked
// layers, image names and leases, and the collector of what none of them needs.
//
//	Root/gc.lock              held shared while a lease is written, exclusively while garbage is marked
//	Root/leases/ID{,.lock}    digests that an operation needs; alive while the lock is held
//	Root/tmp/ID/              working files of that lease; garbage as soon as the lease is dead
//	Root/blobs/sha256/HEX     compressed layers, manifests, configs; verified before they get this name
//	Root/blobs/partial/HEX{,.lock}   an unfinished download and the lock of whoever goes on with it
//	Root/layers/NAME/         diff/ (the tree), meta.json, pending (the boot in which it was not yet synced),
//	                          tar.json (digest and size of the plain tar, if it was asked for later)
//	Root/layers/.lock/NAME    held by whoever unpacks that layer
//	Root/build/               the cache of builds; its records keep layers, see internal/build/cache
//	Root/images/NAME.json     one file for each name, see Name; names.lock orders their changes
//	Root/uploads/ID{/,.lock}  content that a client of a registry is sending, in pieces
//	Root/holds/HEX-SCOPE      a blob that arrived so and that no manifest names yet; see Hold
//	Root/trash/ID/            renamed away by the collector, deleted after its lock was released
//
// A layer that came with an image is called by its chain id, one that a build
// made has a random name. When that becomes part of an image, the chain id is a
// second name: a layer whose diff is a symbolic link to the other's, see Share.
//
// Lock order: images/names.lock, then a layer's lock (an upper layer's before
// those below it), then gc.lock. Nobody waits for one while holding a later one.
package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/journal"
)

// Store is the shared state below one Root. All methods are safe for
// concurrent use, also by any number of processes on the same Root.
type Store struct {
	// Logger receives what nobody waits for, such as a failed background sync.
	// nil discards. It is set before the first use.
	Logger *slog.Logger

	root, state string
	journal     *journal.Journal

	mu   sync.Mutex // guards what follows
	init bool       // directories are known to exist

	unsynced []*os.Root // layers that a sync will take the marks from
	syncing  bool       // one is under way

	background sync.WaitGroup // syncs of new layers
}

// Open returns the store of root. It does no I/O: directories are made by the
// first call that writes. state is where files live that need not survive a
// reboot, j the log of changes.
func Open(root, state string, j *journal.Journal) *Store {
	return &Store{root: root, state: state, journal: j}
}

// Root is the directory that the store lives in.
func (s *Store) Root() string { return s.root }

// State is the directory of what does not survive a reboot.
func (s *Store) State() string { return s.state }

// Journal is the log that changes of names are written to.
func (s *Store) Journal() *journal.Journal { return s.journal }

// Wait returns when the background syncs that this process began are over.
// A process may exit without it: the layers stay marked and are synced by the
// next one, or unpacked again if the machine lost power.
func (s *Store) Wait() { s.background.Wait() }

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.root}, elem...)...)
}

// Init makes the directories. Calls that write do it themselves.
func (s *Store) Init() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.init {
		return nil
	}
	// Overlay mounts traverse Root and layers as another user when ids are
	// mapped; everything else is private.
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{
		{s.root, 0o711}, {s.path("layers"), 0o711}, {s.path("layers", ".lock"), 0o700},
		{s.path("blobs", "sha256"), 0o700}, {s.path("blobs", "partial"), 0o700},
		{s.path("images"), 0o700}, {s.path("leases"), 0o700}, {s.path("tmp"), 0o700}, {s.path("trash"), 0o700},
		{s.path("uploads"), 0o700}, {s.path("holds"), 0o700},
	} {
		if err := os.MkdirAll(d.path, d.mode); err != nil {
			return s.trouble(err)
		}
	}
	s.init = true
	return nil
}

// trouble is what goes wrong in the store itself.
type trouble struct{ err error }

func (t *trouble) Error() string { return t.err.Error() }
func (t *trouble) Unwrap() error { return t.err }

// IsTrouble reports whether the store itself failed, so that no other source
// of the same content can help.
func IsTrouble(err error) bool {
	var t *trouble
	return errors.As(err, &t)
}

// trouble wraps I/O errors of the store: they never look as if the object
// asked for were absent, and those that have a cure say it.
func (s *Store) trouble(err error) error {
	switch {
	case err == nil || IsTrouble(err):
		return err
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		err = fault.Privilege("store %s cannot be written: %w; make it writable or choose another root directory", s.root, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		err = fault.Opaque(fmt.Errorf("store %s: disk is full: %w; free space or choose another root directory", s.root, err))
	default:
		err = fault.Opaque(fmt.Errorf("store %s: %w", s.root, err))
	}
	return &trouble{err}
}

// diskTrouble is trouble for a full disk alone: what else goes wrong while an
// archive is unpacked is the archive's fault.
func (s *Store) diskTrouble(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EIO) {
		return s.trouble(err)
	}
	return err
}

// Trouble wraps what went wrong with a working file of a lease.
func (s *Store) Trouble(err error) error { return s.trouble(err) }

// CheckSpace refuses content of n bytes that the disk cannot hold, before a
// gigabyte of it was written. It is a courtesy: others may use the space.
func (s *Store) CheckSpace(n int64) error {
	free, err := freeSpace(s.root)
	if err == nil && n > free {
		return &trouble{fault.Opaque(fmt.Errorf("store %s: %w: %d bytes are needed, %d are free; free space or choose another root directory", s.root, syscall.ENOSPC, n, free))}
	}
	return nil
}

func (s *Store) logger() *slog.Logger {
	if s.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Logger
}

// idBytes is the length of ids, in bytes.
const idBytes = 12

func randomID() string {
	var b [idBytes]byte
	rand.Read(b[:]) // never fails, by its contract
	return hex.EncodeToString(b[:])
}
