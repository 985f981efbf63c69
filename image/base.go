package image

import (
	"context"
	"errors"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// BaseOptions say which image of a name is meant.
type BaseOptions struct {
	// Platform is the one wanted; default the host's.
	Platform ocispec.Platform
	// Always asks the registry also for an image that is here, Never not even
	// for one that is not.
	Always, Never bool
	// Known is the manifest that the name stood for the last time, tried where
	// no name says what is meant and Always does not ask.
	Known digest.Digest
	// Progress is told about each layer, as by Pull.
	Progress func(Progress)
}

// Base is an image that others are built upon: its configuration is here,
// its layers come when they are asked for. It has no name by this.
type Base struct {
	s      *Store
	p      *puller
	ref    Ref
	img    *store.Image
	config ocispec.Descriptor
	never  bool
}

// Base finds out what a name stands for, from this store or from the registry.
// What it reads is kept by the lease; Close the result.
func (s *Store) Base(ctx context.Context, l *store.Lease, name string, opts *BaseOptions) (*Base, error) {
	b, err := s.base(ctx, l, name, opts)
	if err != nil {
		return nil, fault.New("image get", name, err)
	}
	return b, nil
}

func (s *Store) base(ctx context.Context, l *store.Lease, name string, o *BaseOptions) (_ *Base, err error) {
	p := &puller{s: s, lease: l, stall: stallTimeout, want: o.Platform,
		opts: &PullOptions{Platform: formatPlatform(o.Platform), Progress: o.Progress}}
	if p.want.OS == "" {
		p.want, p.opts.Platform = hostPlatform(), ""
	}
	b := &Base{s: s, p: p, never: o.Never}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	var refErr error
	if b.ref, refErr = parseRef(name); refErr == nil && !o.Never {
		if p.sources, err = s.sources(b.ref, p.stall); err != nil {
			return nil, err
		}
	}
	if !o.Always {
		if found, err := b.local(ctx, name, o.Known); found || err != nil {
			return b, err
		}
	}
	if refErr != nil {
		return nil, refErr
	}
	if o.Never {
		return nil, fault.NotExist("no such image for %s here, and it is not to be pulled", formatPlatform(p.want))
	}
	_, data, err := p.top(ctx, b.ref)
	if err != nil {
		return nil, err
	}
	return b, b.choose(ctx, data)
}

// local looks for the image in the store: by its name, or by the manifest that
// it was. It is false if the registry must be asked.
func (b *Base) local(ctx context.Context, name string, known digest.Digest) (bool, error) {
	target := known
	n, err := b.s.find(ctx, name)
	if err == nil {
		target = n.Target
	} else if !errors.Is(err, fs.ErrNotExist) || known == "" {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return false, err
	}
	if err := b.p.lease.Add(ctx, target); err != nil {
		return false, err
	}
	data, err := b.s.s.ReadBlob(target)
	if errors.Is(err, store.ErrMissing) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = b.choose(ctx, data)
	// An image for another platform has this name here: the registry may have more.
	if (errors.Is(err, fs.ErrNotExist) || errors.Is(err, store.ErrMissing)) && !b.never {
		return false, nil
	}
	return err == nil, err
}

// choose goes from a manifest or index to the image of the platform, and reads
// its configuration.
func (b *Base) choose(ctx context.Context, data []byte) error {
	img, config, err := b.p.chosen(ctx, data)
	if err != nil {
		return err
	}
	if err := b.p.lease.Add(ctx, config.Digest); err != nil {
		return err
	}
	if b.never {
		if _, ok := b.s.s.HasBlob(config.Digest); !ok {
			return store.ErrMissing
		}
	} else if _, err := b.p.download(*config).run(ctx); err != nil {
		return err
	}
	if data, err = b.s.s.ReadBlob(config.Digest); err != nil {
		return err
	}
	b.img, b.config = img, *config
	return b.p.check(img, data)
}

// Close ends the connections to registries. It is idempotent.
func (b *Base) Close() { b.p.close() }

// Manifest is the digest of the image's manifest.
func (b *Base) Manifest() digest.Digest { return b.img.Manifest }

// Ref is the name with the manifest's digest.
func (b *Base) Ref() string {
	if b.ref == (Ref{}) {
		return string(b.img.Manifest)
	}
	r := b.ref
	r.Digest = string(b.img.Manifest)
	return r.String()
}

// Config is the image's configuration, as it is stored.
func (b *Base) Config() []byte { return b.img.Config }

// Layers returns the names of the unpacked layers, bottom to top, kept by the
// lease; what is not here is fetched.
func (b *Base) Layers(ctx context.Context) ([]string, error) {
	err := b.layers(ctx)
	if err != nil {
		return nil, fault.New("image pull", b.Ref(), err)
	}
	return b.img.Chains(), nil
}

func (b *Base) layers(ctx context.Context) error {
	if err := b.p.lease.AddImage(ctx, b.img); err != nil {
		return err
	}
	err := b.s.s.Unpack(ctx, b.p.lease, b.img, nil)
	if errors.Is(err, store.ErrMissing) && !b.never {
		return b.p.content(ctx, b.img, b.config)
	}
	return err
}
