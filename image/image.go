package image

import (
	"context"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// Image is one image of a Store, found by Get or made by Pull, Load or Import.
// Its content never changes; what names it has does, see Info. It does not
// keep the image from being removed: Prepare does. Safe for concurrent use.
type Image struct {
	s      *Store
	img    *store.Image
	config *Config
	ref    Ref
}

// open reads and checks an image.
func (s *Store) open(n *store.Name) (*Image, error) {
	if n.Artifact != "" {
		return nil, fault.Invalid("an artifact of type %q, not a container image", n.Artifact)
	}
	img, err := s.s.Image(n.Manifest)
	if err != nil {
		return nil, err
	}
	return s.handle(img, n.Name)
}

func (s *Store) handle(img *store.Image, name string) (*Image, error) {
	config, err := parseConfig(img.Config)
	if err != nil {
		return nil, fault.Opaque(err)
	}
	i := &Image{s: s, img: img, config: config}
	if name != "" {
		i.ref, _ = ParseRef(name) // names are canonical
	}
	return i, nil
}

// ID is the image id: the digest of its config, "sha256:...".
func (i *Image) ID() string { return string(i.img.ID) }

// Manifest is the digest of the chosen platform's manifest.
func (i *Image) Manifest() string { return string(i.img.Manifest) }

// Ref is the name by which the image was found or made. It is the zero Ref
// when it was found by its id or has no name.
func (i *Image) Ref() Ref { return i.ref }

// Platform is what the image runs on: "linux/amd64", "linux/arm64/v8".
func (i *Image) Platform() string { return formatPlatform(i.config.Image.Platform) }

// Config returns a copy of the image's configuration.
func (i *Image) Config() *Config {
	c, err := parseConfig(i.img.Config)
	if err != nil {
		return i.config // it was parsed before
	}
	return c
}

// RawConfig returns the configuration as its digest, the ID, covers it.
func (i *Image) RawConfig() []byte { return slices.Clone(i.img.Config) }

// Layers are the chain ids of the layers, bottom to top, without "sha256:".
// Each names a directory Root/layers/ID/diff once the layer is unpacked.
func (i *Image) Layers() []string { return i.img.Chains() }

// Blobs describe the compressed layers, bottom to top.
func (i *Image) Blobs() []ocispec.Descriptor {
	out := make([]ocispec.Descriptor, len(i.img.Layers))
	for k, l := range i.img.Layers {
		out[k] = l.Blob
	}
	return out
}

// Lease keeps an image's layers in the store.
type Lease struct{ l *store.Lease }

// Close ends the lease. It is idempotent.
func (l *Lease) Close() error { return l.l.Close() }

// Prepare unpacks what is not unpacked yet and leases all of the image: until
// the lease is closed, or the process ends, no removal takes a layer away.
// Whoever makes a container closes it once the container's record, which
// keeps the layers from then on, is written. Unpacking needs Linux and root,
// else the error Is errors.ErrUnsupported.
func (i *Image) Prepare(ctx context.Context) (*Lease, error) {
	l, err := i.prepare(ctx)
	if err != nil {
		return nil, fault.New("image unpack", i.label(), err)
	}
	return &Lease{l}, nil
}

func (i *Image) prepare(ctx context.Context) (*store.Lease, error) {
	l, err := i.s.s.Lease(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.AddImage(ctx, i.img); err != nil {
		l.Close()
		return nil, err
	}
	if err := i.s.s.Unpack(ctx, l, i.img, nil); err != nil {
		l.Close()
		return nil, err
	}
	i.s.s.Touch(i.img.ID)
	return l, nil
}

// label is how errors call the image.
func (i *Image) label() string {
	if i.ref != (Ref{}) {
		return i.ref.Familiar()
	}
	return shortID(i.ID())
}

// shortID is the form of ids that Docker shows: 12 digits.
func shortID(id string) string {
	const prefix = len("sha256:")
	if len(id) < prefix+12 {
		return id
	}
	return id[prefix : prefix+12]
}
