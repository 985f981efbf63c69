package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"

	"github.com/amphora-go/amphora/internal/step"
)

// AdoptLayer makes a layer with a random name of a directory among the lease's
// working files whose "diff" is the tree, in the form that overlay mounts read.
// The lease names the layer. The directory is gone afterwards.
//
// The layer is not synced: whoever keeps it calls SyncLayers.
func (s *Store) AdoptLayer(ctx context.Context, l *Lease, dir string) (string, LayerMeta, error) {
	var m LayerMeta
	tree := filepath.Join(dir, "diff")
	if err := os.Mkdir(tree, 0o755); err != nil && !os.IsExist(err) {
		return "", m, s.trouble(err) // it exists unless nothing was written
	}
	var err error
	if m.Size, m.Disk, err = Measure(ctx, tree); err != nil {
		return "", m, s.trouble(err)
	}
	var b [32]byte
	rand.Read(b[:]) // never fails, by its contract
	name := hex.EncodeToString(b[:])
	if err := l.AddLayers(ctx, name); err != nil {
		return "", m, err
	}
	if err := s.publishLayer(dir, name, m); err != nil {
		return "", m, err
	}
	step.At("layer.renamed")
	l.found(name)
	return name, m, nil
}

// Have leases layers, then reports whether all are there and can be trusted.
// unsynced are those that it saw for the first time and that are not known to
// be on disk: whoever goes on using them calls SyncLayers some time.
func (l *Lease) Have(ctx context.Context, names ...string) (all bool, unsynced []string, err error) {
	var ask []string
	l.mu.Lock()
	for _, n := range names {
		if !l.there[n] {
			ask = append(ask, n)
		}
	}
	l.mu.Unlock()
	if len(ask) == 0 {
		return true, nil, nil
	}
	for _, n := range ask {
		if !isHex(n) {
			return false, nil, badLayer(n)
		}
	}
	if err := l.AddLayers(ctx, ask...); err != nil {
		return false, nil, err
	}
	for _, n := range ask {
		m, state, ok, err := l.s.layer(n)
		if m.Same != "" && ok && err == nil {
			_, _, ok, err = l.s.layer(m.Same) // has the same mark, or none
		}
		if err != nil || !ok {
			return false, unsynced, err
		}
		if state == pendingNow {
			unsynced = append(unsynced, n)
		}
		l.found(n)
	}
	return true, unsynced, nil
}

// found remembers that a layer is there, which it is until the lease ends.
func (l *Lease) found(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.there == nil {
		l.there = map[string]bool{}
	}
	l.there[name] = true
}
