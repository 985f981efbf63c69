package image

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/store"
)

// PullOptions tune Pull.
type PullOptions struct {
	// Platform is the one wanted, such as "linux/arm64"; default the host's.
	Platform string
	// Progress is told about each layer. Calls do not overlap; the pull waits
	// for them.
	Progress func(Progress)
	// Parallel is how many layers are fetched at a time. 0: 3, as in Docker
	// (max-concurrent-downloads).
	Parallel int
	// StallTimeout is how long a connection may give no byte before it is
	// broken off and begun again where it ended. 0: 30 seconds.
	StallTimeout time.Duration
	// Packed leaves the layers packed until they are needed.
	Packed bool
}

// Pull fetches an image from its registry, or a mirror of it, and unpacks it
// where layers can be unpacked (Linux, as root). What is there already is not
// fetched again, and what several processes want is fetched by one of them.
// Every byte is verified against its digest. A pull that fails or whose ctx
// ends keeps what it fetched for the next one, for a day at most.
//
// The error Is fs.ErrNotExist when the registry has no such image or none for
// the platform, fs.ErrPermission when it denies access, fs.ErrInvalid when the
// image is malformed.
func (s *Store) Pull(ctx context.Context, name string, opts *PullOptions) (*Image, error) {
	if opts == nil {
		opts = &PullOptions{}
	}
	known, err := s.beforeLimit(ctx)
	if err != nil {
		return nil, fault.New("image pull", name, err)
	}
	img, err := s.pull(ctx, name, opts)
	if err == nil {
		err = s.tidy(ctx, img, known != nil && !known[img.img.ID])
	}
	if err != nil {
		return nil, fault.New("image pull", name, err)
	}
	return img, nil
}

// puller is one Pull.
type puller struct {
	s       *Store
	opts    *PullOptions
	sources []*source
	lease   *store.Lease
	opened  map[digest.Digest]bool // indexes within indexes
	want    ocispec.Platform
	stall   time.Duration
}

func (s *Store) pull(ctx context.Context, name string, opts *PullOptions) (*Image, error) {
	ref, err := parseRef(name)
	if err != nil {
		return nil, err
	}
	p := &puller{s: s, opts: opts, stall: opts.StallTimeout}
	if p.stall <= 0 {
		p.stall = 30 * time.Second
	}
	if p.want, err = parsePlatform(opts.Platform); err != nil {
		return nil, err
	}
	if p.sources, err = s.sources(ref, opts.StallTimeout); err != nil {
		return nil, err
	}
	defer p.close()
	if p.lease, err = s.s.Lease(ctx); err != nil {
		return nil, err
	}
	defer p.lease.Close()
	return p.run(ctx, ref)
}

func (p *puller) close() {
	for _, src := range p.sources {
		src.wire.close()
	}
}

func (p *puller) run(ctx context.Context, ref Ref) (*Image, error) {
	trust, err := p.s.trust(ref)
	if err != nil {
		return nil, err
	}
	target, data, err := p.top(ctx, ref)
	if err != nil {
		return nil, err
	}
	n := store.Name{Name: ref.stored().String(), Target: target, Pulled: true}
	img, config, err := p.chosen(ctx, data)
	if err != nil {
		return nil, err
	}
	if err := trust.verify(ctx, p, ref, string(target), string(img.Manifest)); err != nil {
		return nil, err
	}
	n.MediaType, n.Manifest, n.ImageID = store.MediaType(data), img.Manifest, img.ID
	if err := p.content(ctx, img, *config); err != nil {
		return nil, err
	}
	parsed, err := parseConfig(img.Config)
	if err != nil {
		return nil, fault.Invalid("config %s: %w", img.ID, err)
	}
	n.Platform = formatPlatform(parsed.Image.Platform)
	step.At("image.blobs")
	return p.s.name(ctx, "pull", n, n.Name)
}

// top gets what the reference stands for: a manifest or an index.
func (p *puller) top(ctx context.Context, ref Ref) (digest.Digest, []byte, error) {
	d := digest.Digest(ref.Digest)
	if d == "" {
		var err error
		if d, err = p.resolve(ctx, ref.Tag); err != nil {
			return "", nil, err
		}
	}
	if d != "" {
		data, err := p.manifest(ctx, d)
		return d, data, err
	}
	// A registry that does not tell digests by HEAD.
	var data []byte
	if err := p.ask(ctx, func(src *source) (err error) {
		data, err = src.manifest(ctx, ref.Tag)
		return err
	}); err != nil {
		return "", nil, err
	}
	d, err := p.s.s.PutBlob(ctx, p.lease, data)
	return d, data, err
}

// resolve asks for the digest of a tag: a HEAD, which counts against no limit
// of Docker Hub. It is "" when the registry does not say.
func (p *puller) resolve(ctx context.Context, tag string) (d digest.Digest, err error) {
	err = p.ask(ctx, func(src *source) error {
		var err error
		d, err = src.head(ctx, tag)
		var status *transport.Error
		if errors.As(err, &status) && status.StatusCode == http.StatusMethodNotAllowed {
			return nil
		}
		return err
	})
	return d, err
}

// ask tries f on the sources in turn.
func (p *puller) ask(ctx context.Context, f func(*source) error) error {
	var failures []error
	for _, src := range p.sources {
		err := persist(ctx, func() error { return f(src) })
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.s.health.note(src, err)
		if err == nil {
			return nil
		}
		failures = addFailure(failures, src, err)
	}
	return joinFailures(failures)
}

// manifest returns a manifest or index by digest, from the store if it is there.
func (p *puller) manifest(ctx context.Context, d digest.Digest) ([]byte, error) {
	if err := p.lease.Add(ctx, d); err != nil {
		return nil, err
	}
	if data, err := p.s.s.ReadBlob(d); err == nil {
		return data, nil
	}
	var data []byte
	if err := p.ask(ctx, func(src *source) (err error) {
		data, err = src.manifest(ctx, string(d))
		return err
	}); err != nil {
		return nil, err
	}
	_, err := p.s.s.PutBlob(ctx, p.lease, data)
	return data, err
}

// chosen goes from a manifest, or an index, to the manifest of the platform.
func (p *puller) chosen(ctx context.Context, data []byte) (*store.Image, *ocispec.Descriptor, error) {
	entries, err := p.entries(ctx, data, 0)
	if err != nil {
		return nil, nil, err
	}
	if entries != nil {
		entry, err := choose(entries, p.want)
		if err != nil {
			return nil, nil, err
		}
		if data, err = p.manifest(ctx, entry.Digest); err != nil {
			return nil, nil, err
		}
	}
	return store.ParseManifest(data)
}

// entries lists what an index offers, indexes within it opened; nil when data
// is a single manifest.
func (p *puller) entries(ctx context.Context, data []byte, depth int) ([]ocispec.Descriptor, error) {
	list, isIndex, err := store.ParseIndex(data)
	if err != nil || !isIndex {
		return nil, err
	}
	if depth >= maxNesting {
		return nil, fault.Invalid("indexes are nested more than %d deep", maxNesting)
	}
	out := []ocispec.Descriptor{}
	for _, e := range list {
		if !isIndexType(e.MediaType) {
			out = append(out, e)
			continue
		}
		// Each once: indexes that list one another many times over would take
		// for ever.
		if p.opened[e.Digest] {
			continue
		}
		if p.opened == nil {
			p.opened = map[digest.Digest]bool{}
		}
		if p.opened[e.Digest] = true; len(p.opened) > maxIndexes {
			return nil, fault.Invalid("the index lists more than %d other indexes", maxIndexes)
		}
		inner, err := p.manifest(ctx, e.Digest)
		if err != nil {
			return nil, err
		}
		more, err := p.entries(ctx, inner, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

// maxIndexes within one.
const maxIndexes = 100

// maxNesting of indexes within indexes; none is usual in registries.
const maxNesting = 3
