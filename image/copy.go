package image

import (
	"context"
	"encoding/json"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// CopyOptions tune Copy.
type CopyOptions struct {
	// Platform copies one platform's image alone, such as "linux/arm64";
	// default all that the source has, attestations included.
	Platform string
	// Progress is told about each layer. Calls do not overlap.
	Progress func(Progress)
	// Parallel is how many blobs are on their way at a time. 0: 5.
	Parallel int
	// StallTimeout is how long a connection may move no byte before it is
	// broken off and begun again where it ended. 0: 30 seconds.
	StallTimeout time.Duration
}

// Copy sends an image from one registry, or a mirror of it, to another, byte
// for byte, without giving it a name here and without unpacking it. Blobs that
// the destination has, also in the repository that is copied from, are not
// fetched; others pass through the store and are gone from it afterwards,
// unless an image of it has them.
//
// The errors are those of Pull and Push.
func (s *Store) Copy(ctx context.Context, from, to string, opts *CopyOptions) (*Pushed, error) {
	if opts == nil {
		opts = &CopyOptions{}
	}
	done, err := s.copy(ctx, from, to, opts)
	if err != nil {
		return nil, fault.New("image copy", from+" to "+to, err)
	}
	if _, err := s.s.Collect(ctx, &store.CollectOptions{PartialAge: partialAge}); err != nil {
		s.log.Warn("image: data of a copied image not collected yet", "image", from, "err", err)
	}
	return done, nil
}

func (s *Store) copy(ctx context.Context, from, to string, opts *CopyOptions) (*Pushed, error) {
	source, err := parseRef(from)
	if err != nil {
		return nil, err
	}
	target, err := parseRef(to)
	if err != nil {
		return nil, err
	}
	p := &puller{s: s, opts: &PullOptions{Platform: opts.Platform}, stall: opts.StallTimeout}
	if p.stall <= 0 {
		p.stall = stallTimeout
	}
	if p.want, err = parsePlatform(opts.Platform); err != nil {
		return nil, err
	}
	if p.sources, err = s.sources(source, opts.StallTimeout); err != nil {
		return nil, err
	}
	defer p.close()
	if p.lease, err = s.s.Lease(ctx); err != nil {
		return nil, err
	}
	defer p.lease.Close()
	out, err := p.outgoing(ctx, source, opts.Platform != "")
	if err != nil {
		return nil, err
	}
	push, err := s.newPusher(ctx, target, p.lease, &PushOptions{Progress: opts.Progress, Parallel: opts.Parallel, StallTimeout: opts.StallTimeout})
	if err != nil {
		return nil, err
	}
	defer push.dst.wire.close()
	if source.Registry == target.Registry && source.Repository != target.Repository {
		for _, c := range out.contents {
			push.from[c.Digest] = []string{source.Repository}
		}
	}
	push.scope(out)
	return push.send(ctx, target, out)
}

// outgoing lists what a reference of a registry stands for. Blobs are fetched
// when they are opened.
func (p *puller) outgoing(ctx context.Context, ref Ref, one bool) (*outgoing, error) {
	_, data, err := p.top(ctx, ref)
	if err != nil {
		return nil, err
	}
	if one {
		entries, err := p.entries(ctx, data, 0)
		if err != nil {
			return nil, err
		}
		if entries != nil {
			e, err := choose(entries, p.want)
			if err != nil {
				return nil, err
			}
			if data, err = p.manifest(ctx, e.Digest); err != nil {
				return nil, err
			}
		}
	}
	out := &outgoing{}
	return out, p.collect(ctx, out, data, 0)
}

// collect adds a document and all that it refers to.
func (p *puller) collect(ctx context.Context, out *outgoing, data []byte, depth int) error {
	if depth > maxNesting {
		return fault.Invalid("indexes are nested more than %d deep", maxNesting)
	}
	entries, isIndex, err := store.ParseIndex(data)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if out.hasDocument(e.Digest) {
			continue
		}
		inner, err := p.manifest(ctx, e.Digest)
		if err == nil {
			err = p.collect(ctx, out, inner, depth+1)
		}
		if err != nil {
			return err
		}
	}
	if !isIndex {
		var m ocispec.Manifest
		if err := json.Unmarshal(data, &m); err != nil {
			return fault.Invalid("manifest is malformed: %w", err)
		}
		for i, d := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
			if err := store.CheckDigest(d.Digest); err != nil {
				return err
			}
			if d.Size < 0 {
				return fault.Invalid("%s has the impossible size %d", d.Digest, d.Size)
			}
			if !foreign(d) {
				out.addContent(&content{Descriptor: d, layer: i > 0, open: func(ctx context.Context) (blobFile, error) { return p.openBlob(ctx, d) }})
			}
		}
	}
	out.addDocument(newDocument(data))
	return nil
}

func (p *puller) openBlob(ctx context.Context, d ocispec.Descriptor) (blobFile, error) {
	if err := p.lease.Add(ctx, d.Digest); err != nil {
		return nil, err
	}
	if _, err := p.download(d).run(ctx); err != nil {
		return nil, err
	}
	return p.s.s.OpenBlob(d.Digest)
}
