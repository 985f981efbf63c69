package image

import (
	"context"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// content gets config and layers. Layers are unpacked while they arrive.
func (p *puller) content(ctx context.Context, img *store.Image, config ocispec.Descriptor) error {
	if config.Size > store.MaxMetadata {
		return fault.Invalid("config %s has %d bytes, more than the %d allowed", config.Digest, config.Size, store.MaxMetadata)
	}
	blobs := []digest.Digest{img.Manifest, img.ID}
	for _, l := range img.Layers {
		blobs = append(blobs, l.Blob.Digest)
	}
	if err := p.lease.Add(ctx, blobs...); err != nil {
		return err
	}
	dropped, err := p.dropped(ctx, img)
	if err != nil {
		return err
	}
	if err := p.s.reserve(ctx, p.missing(img, dropped)); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	layers := p.fetchLayers(ctx, g, img, dropped)
	g.Go(func() error {
		if _, err := p.download(config).run(ctx); err != nil {
			return err
		}
		data, err := p.s.s.ReadBlob(img.ID)
		if err != nil {
			return err
		}
		if err := p.check(img, data); err != nil {
			return err
		}
		return layers.unpack(ctx, img)
	})
	return g.Wait()
}

// dropped says which layers do without their blob, see Settings.DropBlobs:
// known only of images whose config is here. They are leased.
func (p *puller) dropped(ctx context.Context, img *store.Image) (map[digest.Digest]bool, error) {
	config, err := p.s.s.ReadBlob(img.ID)
	known := &store.Image{ID: img.ID, Layers: slices.Clone(img.Layers)}
	if err != nil || known.SetConfig(config) != nil {
		return nil, nil
	}
	if err := p.lease.AddLayers(ctx, known.Chains()...); err != nil {
		return nil, err
	}
	out := map[digest.Digest]bool{}
	for _, l := range known.Layers {
		if _, ok := p.s.s.HasBlob(l.Blob.Digest); !ok && p.s.s.Dropped(l.Chain) {
			out[l.Blob.Digest] = true
		}
	}
	return out, nil
}

// missing is how many bytes are to be fetched.
func (p *puller) missing(img *store.Image, dropped map[digest.Digest]bool) int64 {
	var n int64
	seen := map[digest.Digest]bool{}
	for _, l := range img.Layers {
		if _, ok := p.s.s.HasBlob(l.Blob.Digest); !ok && !dropped[l.Blob.Digest] && !seen[l.Blob.Digest] && !foreign(l.Blob) {
			n += l.Blob.Size
		}
		seen[l.Blob.Digest] = true
	}
	return n
}

// check completes img by its config and sees that it is what was asked for.
func (p *puller) check(img *store.Image, config []byte) error {
	if err := img.SetConfig(config); err != nil {
		return err
	}
	parsed, err := parseConfig(config)
	if err != nil {
		return fault.Invalid("config %s: %w", img.ID, err)
	}
	have := parsed.Image.Platform
	switch {
	case have.OS == "windows":
		return fault.Unsupported("the image is for Windows (%s)", formatPlatform(have))
	case matches(p.want, have) >= 0:
	case p.opts.Platform != "":
		return noPlatform(p.want, []string{formatPlatform(have)})
	default:
		p.s.log.Warn("image: made for another platform", "image", img.ID, "platform", formatPlatform(have))
	}
	return nil
}

// layerSet is the layers of a pull on their way.
type layerSet struct {
	p         *puller
	report    *reporter
	downloads []*download // by layer; equal blobs share one
}

// fetchLayers begins to fetch all layers, the lowest first.
func (p *puller) fetchLayers(ctx context.Context, g *errgroup.Group, img *store.Image, dropped map[digest.Digest]bool) *layerSet {
	set := &layerSet{p: p, report: newReporter(p.opts.Progress, len(img.Layers))}
	slots := make(chan struct{}, p.parallel())
	byDigest := map[digest.Digest]*download{}
	var order []*download
	where := map[*download][]int{}
	for i, l := range img.Layers {
		set.report.begin(i, string(l.Blob.Digest), l.Blob.Size)
		d := byDigest[l.Blob.Digest]
		if d == nil {
			d = p.download(l.Blob)
			byDigest[l.Blob.Digest] = d
			if !dropped[l.Blob.Digest] {
				order = append(order, d)
			}
		}
		if dropped[l.Blob.Digest] {
			set.report.fetched(i, true)
		}
		set.downloads = append(set.downloads, d)
		where[d] = append(where[d], i)
	}
	g.Go(func() error {
		for _, d := range order {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			g.Go(func() error {
				defer func() { <-slots }()
				return set.fetch(ctx, d, where[d])
			})
		}
		return nil
	})
	return set
}

func (p *puller) parallel() int {
	if p.opts.Parallel > 0 {
		return p.opts.Parallel
	}
	return 3
}

func (set *layerSet) fetch(ctx context.Context, d *download, layers []int) error {
	each := func(f func(i int)) {
		for _, i := range layers {
			f(i)
		}
	}
	d.tell = func(n int64) { each(func(i int) { set.report.bytes(i, n) }) }
	d.verify = func() { each(set.report.verifying) }
	existed, err := d.run(ctx)
	if err == nil {
		each(func(i int) { set.report.fetched(i, existed) })
	}
	return err
}

func (set *layerSet) unpack(ctx context.Context, img *store.Image) error {
	if set.p.opts.Packed || store.CanUnpack() != nil {
		for i := range img.Layers {
			set.report.unpacked(i, true)
		}
		return nil
	}
	limits, err := set.p.s.settings()
	if err != nil {
		return err
	}
	return set.p.s.s.Unpack(ctx, set.p.lease, img, &store.UnpackOptions{
		MaxBytes: limits.MaxBytes,
		Open:     func(ctx context.Context, i int) (io.ReadCloser, error) { return set.downloads[i].open(ctx) },
		Progress: func(i int, u store.UnpackProgress) {
			if u != store.Unpacking {
				set.report.unpacked(i, u == store.Existed)
			}
		},
	})
}
