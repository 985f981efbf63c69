package image

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// Usage is what images take on disk. All sizes are in bytes: of blobs as they
// lie, of layers the content of their files.
type Usage struct {
	Images []ImageUsage // the largest unique size first
	Layers []PartUsage  // unpacked layers by chain id, the largest first
	Blobs  []PartUsage  // by digest, the largest first
	// Partial is unfinished downloads, Working what operations have in hand or
	// left behind.
	Partial, Working int64
	// Size is all of it. Garbage is what no image, container or operation
	// needs; any removal or Prune takes it. Reclaimable is Garbage and what
	// Prune with All would take besides.
	Size, Garbage, Reclaimable int64
}

// ImageUsage is what one image takes.
type ImageUsage struct {
	Info
	// Size is its blobs and layers, of which Shared is in other images, too.
	// Unique is the rest: what its removal would free.
	Size, Shared, Unique int64
	Containers           int       // that use it
	Used                 time.Time // when it was pulled or a container last made of it
}

// PartUsage is what a blob or layer takes.
type PartUsage struct {
	ID     string
	Size   int64
	Images int // that have it
}

// Usage measures what images take on disk.
func (s *Store) Usage(ctx context.Context) (*Usage, error) {
	u, err := s.measure(ctx)
	return u, fault.New("image usage", "", err)
}

func (s *Store) measure(ctx context.Context) (*Usage, error) {
	infos, err := s.list(ctx, nil)
	if err != nil {
		return nil, err
	}
	used, err := s.usage(ctx)
	if err != nil {
		return nil, err
	}
	names, err := s.s.Names(ctx)
	if err != nil {
		return nil, err
	}
	idle := map[digest.Digest]bool{}
	for _, i := range infos {
		idle[digest.Digest(i.ID)] = used.of(digest.Digest(i.ID), digest.Digest(i.Manifest)) == 0
	}
	h, err := s.s.Holding(ctx, nil)
	if err != nil {
		return nil, err
	}
	without, err := s.s.Holding(ctx, func(n *store.Name) bool { return idle[n.ImageID] })
	if err != nil {
		return nil, err
	}
	u := &Usage{Partial: h.Partial, Working: h.Working, Size: h.Size(), Garbage: h.Garbage(), Reclaimable: without.Garbage()}
	sharers := map[string]int{} // blobs and layers to the number of images
	parts := make([]map[string]int64, len(infos))
	for k, i := range infos {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		parts[k] = s.parts(h, i, names)
		for id := range parts[k] {
			sharers[id]++
		}
	}
	for k, i := range infos {
		one := ImageUsage{Info: i, Containers: used.of(digest.Digest(i.ID), digest.Digest(i.Manifest)), Used: s.s.Used(digest.Digest(i.ID))}
		for id, size := range parts[k] {
			one.Size += size
			if sharers[id] > 1 {
				one.Shared += size
			}
		}
		one.Unique = one.Size - one.Shared
		u.Images = append(u.Images, one)
	}
	slices.SortStableFunc(u.Images, func(a, b ImageUsage) int { return int(min(max(b.Unique-a.Unique, -1), 1)) })
	for d, size := range h.Blobs {
		u.Blobs = append(u.Blobs, PartUsage{string(d), size, sharers[string(d)]})
	}
	for c, size := range h.Layers {
		u.Layers = append(u.Layers, PartUsage{c, size, sharers[c]})
	}
	largestFirst(u.Blobs)
	largestFirst(u.Layers)
	return u, nil
}

func largestFirst(list []PartUsage) {
	slices.SortFunc(list, func(a, b PartUsage) int {
		if a.Size != b.Size {
			return int(min(max(b.Size-a.Size, -1), 1))
		}
		return strings.Compare(a.ID, b.ID)
	})
}

// parts are all blobs and layers that an image keeps, by its names' indexes
// too, and that are there.
func (s *Store) parts(h *store.Holding, i Info, names []*store.Name) map[string]int64 {
	out := map[string]int64{}
	add := func(blobs map[digest.Digest]bool, layers map[string]bool) {
		for d := range blobs {
			if size, ok := h.Blobs[d]; ok {
				out[string(d)] = size
			}
		}
		for c := range layers {
			if size, ok := h.Layers[c]; ok {
				out[c] = size
			}
		}
	}
	for _, n := range names {
		if string(n.ImageID) == i.ID {
			add(s.s.Reached(n.Target, n.Manifest))
		}
	}
	return out
}
