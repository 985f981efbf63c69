package image

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/store"
)

// restore fetches a blob that was dropped from where its image came from, so
// that what leaves the store has the digests that it came with. False: it
// cannot be had, and is to be made from the unpacked layer.
func (s *Store) restore(ctx context.Context, l *store.Lease, c *content) bool {
	if err := s.fetchBlob(ctx, l, c.Descriptor, c.chain); err != nil {
		s.log.Info("image: a dropped blob cannot be fetched", "blob", c.Digest, "err", err)
		return false
	}
	size, ok := s.s.HasBlob(c.Digest)
	c.Size = size
	c.open = func(context.Context) (blobFile, error) { return s.s.OpenBlob(c.Digest) }
	return ok
}

// fetchBlob gets a blob from the registries, or their mirrors, that an image
// which has it was pulled from, or that were noted for the layer when it was
// dropped. The lease names it afterwards.
func (s *Store) fetchBlob(ctx context.Context, l *store.Lease, blob ocispec.Descriptor, chain string) error {
	if err := l.Add(ctx, blob.Digest); err != nil {
		return err
	}
	refs, err := s.originsOf(ctx, blob.Digest)
	if err != nil {
		return err
	}
	for _, name := range s.s.Origins(chain) {
		ref, err := parseRef(name)
		if err == nil && !slices.ContainsFunc(refs, func(r Ref) bool { return r.Name() == ref.Name() }) {
			refs = append(refs, ref)
		}
	}
	var failures []error
	for _, ref := range refs {
		err := s.fetchFrom(ctx, l, ref, blob)
		if err == nil || ctx.Err() != nil {
			return err
		}
		failures = append(failures, err)
	}
	if failures == nil {
		return store.ErrMissing
	}
	return joinFailures(failures)
}

func (s *Store) fetchFrom(ctx context.Context, l *store.Lease, ref Ref, blob ocispec.Descriptor) error {
	p := &puller{s: s, opts: &PullOptions{}, stall: stallTimeout, lease: l}
	var err error
	if p.sources, err = s.sources(ref, 0); err != nil {
		return err
	}
	defer p.close()
	if isDocument(blob.MediaType) || blob.MediaType == "" {
		if _, err = p.manifest(ctx, blob.Digest); err == nil || blob.MediaType != "" {
			return err
		}
	}
	_, err = p.download(blob).run(ctx)
	return err
}

// isDocument reports whether registries keep it among manifests.
func isDocument(mediaType string) bool { return isManifestType(mediaType) || isIndexType(mediaType) }

// originsOf lists the names under which a registry has something that refers
// to a blob: one of each repository.
func (s *Store) originsOf(ctx context.Context, d digest.Digest) ([]Ref, error) {
	names, err := s.s.Names(ctx)
	if err != nil {
		return nil, err
	}
	var out []Ref
	for _, n := range names {
		ref, err := parseRef(n.Name)
		if err != nil || !n.Pulled || slices.ContainsFunc(out, func(r Ref) bool { return r.Name() == ref.Name() }) {
			continue
		}
		if blobs, _ := s.s.Reached(n.Target, n.Manifest); blobs[d] {
			out = append(out, ref)
		}
	}
	return out, nil
}
