package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/step"
)

// CollectOptions say how much of what could be useful again is taken.
type CollectOptions struct {
	// PartialAge is how long a download that nobody goes on with is kept.
	// Zero: none is.
	PartialAge time.Duration
	// IdleAge is how long an upload, or a hold, must have been left alone.
	// Zero: the constant IdleAge. Negative: none is kept.
	IdleAge time.Duration
}

func (o *CollectOptions) idleAge() time.Duration {
	if o.IdleAge == 0 {
		return IdleAge
	}
	return o.IdleAge
}

// Collected is what Collect removed.
type Collected struct {
	Blobs  []digest.Digest
	Layers []string // their names: chain ids, and those of layers that builds made
}

// Collect removes blobs and layers that no name, container, record of a build
// or live lease needs, downloads and working files that nobody works on, and what an earlier
// Collect left. Only marking and renaming happen under the lock that users of
// the store wait for; deleting comes after.
func (s *Store) Collect(ctx context.Context, opts *CollectOptions) (*Collected, error) {
	if opts == nil {
		opts = &CollectOptions{}
	}
	if err := s.Init(); err != nil {
		return nil, err
	}
	// An image that loses its name to another one is kept by a new file: names
	// must not change while they are read.
	names, err := flock.Acquire(ctx, s.path("images", "names.lock"), flock.Exclusive)
	if err != nil {
		return nil, s.lockTrouble(ctx, err)
	}
	defer names.Release()
	gc, err := flock.Acquire(ctx, s.path("gc.lock"), flock.Exclusive)
	if err != nil {
		return nil, s.lockTrouble(ctx, err)
	}
	defer gc.Release()
	sw := &sweep{s: s, id: randomID()}
	m, err := s.mark(opts, nil)
	if err != nil {
		return nil, err
	}
	step.At("collect.marked")
	if err := sw.run(m, opts); err != nil {
		return nil, err
	}
	step.At("collect.trashed")
	gc.Release()
	names.Release()
	s.emptyTrash(ctx)
	return &sw.done, nil
}

// emptyTrash deletes what was renamed away, by whomever. It holds no lock:
// nothing refers to the trash, and two deleters only share the work.
func (s *Store) emptyTrash(ctx context.Context) {
	entries, err := os.ReadDir(s.path("trash"))
	for _, e := range entries {
		if ctx.Err() != nil {
			return // the next Collect goes on
		}
		if err := removeTree(s.path("trash", e.Name())); err != nil {
			s.logger().Warn("store: trash not deleted yet", "path", s.path("trash", e.Name()), "err", err)
		}
	}
	if err != nil {
		s.logger().Warn("store: trash cannot be listed", "err", err)
	}
}

type sweep struct {
	s     *Store
	id    string // prefix of this sweep's names in the trash
	taken int
	done  Collected
}

func (sw *sweep) run(m *marks, opts *CollectOptions) error {
	for _, f := range []func() error{
		func() error { return sw.layers(m) },
		func() error { return sw.blobs(m) },
		func() error { return sw.partials(opts.PartialAge) },
		func() error { return sw.leases(m) },
		func() error { _, err := sw.uploads(opts.idleAge()); return err },
		func() error { return sw.holds(m) },
	} {
		if err := f(); err != nil {
			return sw.s.trouble(err)
		}
	}
	return nil
}

// take renames path into the trash. A path that is gone is fine. There is no
// directory for each sweep: making one could fail on a full disk.
func (sw *sweep) take(path string) error {
	sw.taken++
	err := os.Rename(path, sw.s.path("trash", fmt.Sprintf("%s-%d", sw.id, sw.taken)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	step.At("collect.renamed")
	return err
}

func (sw *sweep) layers(m *marks) error {
	entries, err := os.ReadDir(sw.s.path("layers"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !isHex(e.Name()) || m.layers[e.Name()] {
			continue
		}
		// Whoever unpacks has a lease, so this lock is free; but only its
		// holder may unlink it.
		lock, err := flock.Try(sw.s.layerLock(e.Name()), flock.Exclusive)
		if errors.Is(err, flock.ErrHeld) {
			continue
		}
		if err != nil {
			return err
		}
		err = sw.take(sw.s.layerPath(e.Name()))
		os.Remove(sw.s.layerLock(e.Name()))
		lock.Release()
		if err != nil {
			return err
		}
		sw.done.Layers = append(sw.done.Layers, e.Name())
	}
	return nil
}

func (sw *sweep) blobs(m *marks) error {
	entries, err := os.ReadDir(sw.s.path("blobs", "sha256"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		d := digest.Digest("sha256:" + e.Name())
		if m.blobs[d] {
			continue
		}
		if err := sw.take(sw.s.path("blobs", "sha256", e.Name())); err != nil {
			return err
		}
		sw.done.Blobs = append(sw.done.Blobs, d)
	}
	return nil
}

func (sw *sweep) partials(age time.Duration) error {
	dir := sw.s.path("blobs", "partial")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || age > 0 && time.Since(info.ModTime()) < age {
			continue
		}
		path := filepath.Join(dir, strings.TrimSuffix(e.Name(), ".lock"))
		lock, err := flock.Try(path+".lock", flock.Exclusive)
		if errors.Is(err, flock.ErrHeld) {
			continue
		}
		if err != nil {
			return err
		}
		err = sw.take(path)
		os.Remove(path + ".lock")
		lock.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// holds removes those that ended. A hold begins with gc.lock held: none of
// these was renewed since it was marked.
func (sw *sweep) holds(m *marks) error {
	for _, path := range m.stale {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// leases removes those of dead processes, and their working files.
func (sw *sweep) leases(m *marks) error {
	working, err := os.ReadDir(sw.s.path("tmp"))
	if err != nil {
		return err
	}
	for _, e := range working {
		if !m.live[e.Name()] {
			if err := sw.take(sw.s.path("tmp", e.Name())); err != nil {
				return err
			}
		}
	}
	leases, err := os.ReadDir(sw.s.path("leases"))
	if err != nil {
		return err
	}
	for _, e := range leases {
		if !m.live[strings.TrimSuffix(e.Name(), ".lock")] {
			if err := os.Remove(sw.s.path("leases", e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}
