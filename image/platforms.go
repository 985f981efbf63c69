package image

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// PlatformInfo is one of the images under a name.
type PlatformInfo struct {
	Platform string
	Manifest string // digest
	// Present says that the image is here, complete; others can be pulled by
	// their platform. Chosen is the one that containers are made of.
	Present, Chosen bool
	Size            int64 // of its blobs, as far as its manifest is here
}

// Platforms lists the platforms that a name stands for: those of its index, or
// the one that it has. Attestations are left out.
func (s *Store) Platforms(ctx context.Context, name string) ([]PlatformInfo, error) {
	out, err := s.platforms(ctx, name)
	return out, fault.New("image platforms", name, err)
}

func (s *Store) platforms(ctx context.Context, name string) ([]PlatformInfo, error) {
	n, err := s.find(ctx, name)
	if err != nil {
		return nil, err
	}
	l, err := s.s.Lease(ctx)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	g := &gatherer{s: s, lease: l}
	data, err := g.read(ctx, n.Target)
	if err != nil {
		return nil, err
	}
	entries, isIndex, err := store.ParseIndex(data)
	if err != nil {
		return nil, fault.Opaque(err)
	}
	if !isIndex {
		return []PlatformInfo{s.platform(n.Manifest, n.Platform, n.Manifest)}, nil
	}
	flat, err := g.flatten(ctx, entries, 0)
	if err != nil {
		return nil, err
	}
	var out []PlatformInfo
	for _, e := range flat {
		if store.IsAttestation(e) {
			continue
		}
		platform := ""
		if e.Platform != nil {
			platform = formatPlatform(*e.Platform)
		}
		out = append(out, s.platform(e.Digest, platform, n.Manifest))
	}
	return out, nil
}

func (s *Store) platform(manifest digest.Digest, platform string, chosen digest.Digest) PlatformInfo {
	p := PlatformInfo{Platform: platform, Manifest: string(manifest), Chosen: manifest == chosen}
	img, err := s.s.Image(manifest)
	if err != nil {
		return p
	}
	p.Present = !slices.ContainsFunc(img.Layers, func(l store.Layer) bool {
		_, here := s.s.HasBlob(l.Blob.Digest)
		return !here && !s.s.Dropped(l.Chain) && !foreign(l.Blob)
	})
	for _, l := range img.Layers {
		p.Size += l.Blob.Size
	}
	return p
}
