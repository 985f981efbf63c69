package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/layers"
	"github.com/amphora-go/amphora/internal/proc"
)

// A directory that may not be on disk yet has a file "pending" with the id of
// the boot in which it was written: what is found so in another boot may have
// lost any part of its content.

type pendingState int

const (
	pendingNot   pendingState = iota // synced
	pendingNow                       // of this boot: the page cache has it
	pendingStale                     // of another boot
)

func (s *Store) pending(layer string) (pendingState, error) { return pendingOf(s.layerPath(layer)) }

func pendingOf(dir string) (pendingState, error) {
	data, err := os.ReadFile(filepath.Join(dir, "pending"))
	if errors.Is(err, fs.ErrNotExist) {
		return pendingNot, nil
	}
	if err != nil {
		return pendingNot, fault.Opaque(err)
	}
	boot, err := proc.BootID()
	if err != nil {
		return pendingNot, fault.Opaque(err)
	}
	// What follows the first word is the business of whoever wrote the mark.
	if first, _, _ := strings.Cut(strings.TrimSpace(string(data)), " "); first == boot {
		return pendingNow, nil
	}
	return pendingStale, nil
}

// Stale reports whether dir was not synced before the machine went down.
func Stale(dir string) (bool, error) {
	state, err := pendingOf(dir)
	return state == pendingStale, err
}

// MarkPending marks dir as not synced. The note, if there is one, is a word
// that tells this mark from those that others put in its place.
func (s *Store) MarkPending(dir, note string) error {
	boot, err := proc.BootID()
	if err != nil {
		return s.trouble(err)
	}
	text := strings.TrimSpace(boot+" "+note) + "\n"
	return s.trouble(os.WriteFile(filepath.Join(dir, "pending"), []byte(text), 0o600))
}

// withTargets adds the layers that have the files of those named.
func (s *Store) withTargets(names []string) []string {
	all := slices.Clone(names)
	for _, n := range names {
		if t := layers.Target(s.root, n); t != n {
			all = append(all, t)
		}
	}
	return all
}

// SyncLayers makes the layers survive power loss and takes their marks away.
// It goes on in the background, see Wait.
func (s *Store) SyncLayers(names []string) {
	// The directories are held open: a mark is taken only from the very layer
	// that was there before the sync.
	var roots []*os.Root
	for _, n := range s.withTargets(names) {
		if state, err := s.pending(n); err != nil || state != pendingNow {
			continue
		}
		if r, err := os.OpenRoot(s.layerPath(n)); err == nil {
			roots = append(roots, r)
		}
	}
	if len(roots) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsynced = append(s.unsynced, roots...)
	if !s.syncing {
		s.syncing = true
		s.background.Go(s.syncMarked)
	}
}

// syncMarked syncs until nothing is left. What comes while it does waits for
// the next round: any number of layers costs few syncs.
func (s *Store) syncMarked() {
	for {
		s.mu.Lock()
		roots := s.unsynced
		s.unsynced = nil
		if len(roots) == 0 {
			s.syncing = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		err := syncTree(s.path("layers"))
		for _, r := range roots {
			if err == nil {
				r.Remove("pending")
			}
			r.Close()
		}
		if err != nil {
			s.logger().Warn("store: new layers not synced yet", "err", err)
		}
	}
}

// Background runs f as a part of what Wait waits for.
func (s *Store) Background(f func()) { s.background.Go(f) }

// SyncRoot writes back the file system that the Root is on.
func (s *Store) SyncRoot() error { return s.trouble(syncTree(s.root)) }
