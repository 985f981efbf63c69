package image

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/store"
)

// RepairOptions tune Repair.
type RepairOptions struct {
	VerifyOptions
	// Drop takes away what cannot be mended: names whose file is damaged, and
	// images, with all their names, of which something is lost for good. Those
	// that a container uses stay.
	Drop bool
}

// Repaired is what became of one problem.
type Repaired struct {
	Problem
	// Done says what was done: "fetched" from the registry or a mirror,
	// "unpacked" anew, "dropped"; "" if nothing could be.
	Done string
	Err  error // why not, nil when it was mended or dropped
}

// Repair verifies and mends: damaged and missing blobs are fetched from the
// registry that an image with them came from, or a mirror of it, and verified;
// damaged layers are unpacked anew from their blobs, never while a container
// that has them runs. It may be interrupted and begun again at any point. The
// error is about the work as a whole; what could not be mended has an Err.
func (s *Store) Repair(ctx context.Context, opts *RepairOptions) ([]Repaired, error) {
	if opts == nil {
		opts = &RepairOptions{}
	}
	done, err := s.repair(ctx, opts)
	return done, fault.New("image repair", "", err)
}

func (s *Store) repair(ctx context.Context, opts *RepairOptions) ([]Repaired, error) {
	var all []Repaired
	tried := map[string]bool{}
	// What could be read only after a repair, such as the layers of an image
	// whose config was damaged, is found the next time.
	for range maxRepairs {
		found, err := s.Verify(ctx, &opts.VerifyOptions)
		if err != nil {
			return all, err
		}
		again := false
		for _, p := range found.Problems {
			if tried[p.Kind+p.ID] {
				continue
			}
			tried[p.Kind+p.ID] = true
			r := s.mend(ctx, p)
			if ctx.Err() != nil {
				return all, ctx.Err()
			}
			all, again = append(all, r), again || r.Err == nil
			step.At("repair.one")
		}
		if !again {
			break
		}
	}
	if !opts.Drop {
		return all, nil
	}
	for i := range all {
		if r := &all[i]; r.Err != nil {
			if err := s.drop(ctx, r); err != nil {
				r.Err = errors.Join(r.Err, err)
			} else {
				r.Done, r.Err = "dropped", nil
			}
		}
	}
	_, err := s.s.Collect(ctx, &store.CollectOptions{PartialAge: partialAge})
	return all, err
}

// maxRepairs: manifests, then configs, then blobs, then layers, and a last look.
const maxRepairs = 5

func (s *Store) mend(ctx context.Context, p Problem) Repaired {
	r := Repaired{Problem: p}
	switch p.Kind {
	case ProblemBlob:
		r.Done, r.Err = "fetched", s.mendBlob(ctx, p)
	case ProblemLayer:
		r.Done, r.Err = "unpacked", s.mendLayer(ctx, p)
	default:
		r.Err = errors.New("nothing says what it should be; Drop takes it away")
	}
	if r.Err != nil {
		r.Done = ""
	}
	return r
}

func (s *Store) mendBlob(ctx context.Context, p Problem) error {
	l, err := s.s.Lease(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	d := p.blob
	if err := l.Add(ctx, d.Digest); err != nil {
		return err
	}
	// Asked before it goes: a damaged manifest is no longer found by what it
	// lists, and a small damage is better than nothing.
	if !p.Missing {
		if err := s.s.Discard(ctx, d.Digest); err != nil && !errors.Is(err, store.ErrMissing) {
			return err
		}
		step.At("repair.discarded")
	}
	return s.fetchBlob(ctx, l, d, "")
}

func (s *Store) mendLayer(ctx context.Context, p Problem) error {
	l, err := s.s.Lease(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.AddImage(ctx, p.img); err != nil {
		return err
	}
	blob := p.img.Layers[p.at].Blob
	if _, ok := s.s.HasBlob(blob.Digest); !ok {
		if err := s.fetchBlob(ctx, l, blob, p.img.Layers[p.at].Chain); err != nil {
			return fmt.Errorf("its blob was dropped and cannot be fetched: %w", err)
		}
	}
	return s.s.MendLayer(ctx, l, p.img, p.at)
}

// drop takes away the names that need what is lost.
func (s *Store) drop(ctx context.Context, r *Repaired) error {
	if r.Kind == ProblemName {
		return s.s.DropName(ctx, r.file)
	}
	names, err := s.s.SoundNames(ctx)
	if err != nil {
		return err
	}
	lost := map[digest.Digest]bool{}
	for _, n := range names {
		blobs, layers := s.s.Reached(n.Target, n.Manifest)
		if blobs[digest.Digest(r.ID)] || layers[r.ID] || string(n.ImageID) == r.ID {
			lost[n.ImageID] = true
		}
	}
	for id := range lost {
		gone, err := s.removeUnused(ctx, id, false)
		if err == nil && gone == nil {
			err = fault.Kind(ErrInUse, "image %s is used by a container: remove that first", shortID(string(id)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
