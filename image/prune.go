package image

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/store"
)

// PruneOptions tune Prune. The zero value removes dangling images.
type PruneOptions struct {
	// All removes every image that no container uses, not only those without a
	// name.
	All bool
	// Only bounds what is removed: labels, age, size, references. An image goes
	// with all its names or not at all, so References must fit one of them.
	Only ListOptions
	// DryRun changes nothing and says what would go.
	DryRun bool
}

// Pruned is what Prune removed, or would.
type Pruned struct {
	Images []Removed
	Blobs  []string // digests of files that went
	Layers []string // chain ids of layers that went
	// Bytes is what the disk got back.
	Bytes int64
}

// Prune removes images that are not needed, and whatever data no image,
// container or operation needs, such as what a killed process left. What a
// container has, or another process is pulling or about to run, stays. A prune
// that is interrupted has removed some images completely and others not.
func (s *Store) Prune(ctx context.Context, opts *PruneOptions) (*Pruned, error) {
	if opts == nil {
		opts = &PruneOptions{}
	}
	done, err := s.prune(ctx, opts)
	return done, fault.New("image prune", "", err)
}

func (s *Store) prune(ctx context.Context, opts *PruneOptions) (*Pruned, error) {
	only := opts.Only
	only.Unused = true
	only.Dangling = only.Dangling || !opts.All
	infos, err := s.list(ctx, &only)
	if err != nil {
		return nil, err
	}
	return s.removeAll(ctx, infos, only.Dangling, opts.DryRun)
}

// removeAll removes images with all their names, unless something began to use
// them meanwhile, and collects what they had. dangling spares those that got a
// name meanwhile.
func (s *Store) removeAll(ctx context.Context, infos []Info, dangling, dry bool) (*Pruned, error) {
	going := map[digest.Digest]bool{}
	for _, i := range infos {
		going[digest.Digest(i.ID)] = true
	}
	h, err := s.s.Holding(ctx, func(n *store.Name) bool { return going[n.ImageID] })
	if err != nil {
		return nil, err
	}
	infos = slices.DeleteFunc(infos, func(i Info) bool { return h.Leased[i.Manifest] || h.Leased[i.ID] })
	p := &Pruned{}
	if dry {
		for _, i := range infos {
			p.Images = append(p.Images, Removed{ID: i.ID, Untagged: slices.Concat(i.Refs, i.Digests), Deleted: true})
		}
		for d := range h.Blobs {
			if !h.NeededBlobs[d] {
				p.Blobs = append(p.Blobs, string(d))
			}
		}
		for c := range h.Layers {
			if !h.NeededLayers[c] {
				p.Layers = append(p.Layers, c)
			}
		}
		return p.sorted(h), nil
	}
	for _, i := range infos {
		r, err := s.removeUnused(ctx, digest.Digest(i.ID), dangling)
		if err != nil {
			return p, err
		}
		if r != nil {
			p.Images = append(p.Images, *r)
		}
		step.At("prune.image")
	}
	got, err := s.s.Collect(ctx, &store.CollectOptions{PartialAge: partialAge})
	if err != nil {
		return p, err
	}
	for _, d := range got.Blobs {
		p.Blobs = append(p.Blobs, string(d))
	}
	p.Layers = got.Layers
	return p.sorted(h), nil
}

func (p *Pruned) sorted(h *store.Holding) *Pruned {
	slices.Sort(p.Blobs)
	slices.Sort(p.Layers)
	for _, d := range p.Blobs {
		p.Bytes += h.Blobs[digest.Digest(d)]
	}
	for _, c := range p.Layers {
		p.Bytes += h.Layers[c]
	}
	return p
}

// removeUnused removes an image, unless it is used or, with dangling, has a
// name by now: then it returns nil.
func (s *Store) removeUnused(ctx context.Context, id digest.Digest, dangling bool) (*Removed, error) {
	r := &Removed{ID: string(id)}
	kept := false
	err := s.s.UpdateNames(ctx, func(tx *store.NamesTx) error {
		all := tx.Of(id)
		gone := named(all)
		if kept = len(all) == 0 || dangling && len(gone) > 0 || s.unused(id) != nil; kept {
			return nil
		}
		return s.removeNames(ctx, tx, gone, true, r)
	})
	if err != nil || kept {
		return nil, err
	}
	return r, nil
}
