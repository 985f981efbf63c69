package image

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/store"
)

// Parts are what Assemble makes an image of.
type Parts struct {
	// Config is the image's configuration, which says the diff ids of its
	// layers and its platform.
	Config []byte
	// Layers describe the layers, bottom to top. Each is in the store under
	// its chain id, or its blob is.
	Layers []ocispec.Descriptor
	// Annotations of the manifest; nil for none.
	Annotations map[string]string
}

// AssembleOptions tune Assemble.
type AssembleOptions struct {
	// Action is what the events of the image's names say was done, such as
	// "build".
	Action string
	// Names the image gets; none keeps it without a name.
	Names []string
	// Index makes an index also of one image alone.
	Index bool
	// Hidden makes the image without making it known: the lease alone keeps
	// it, for SaveAssembled.
	Hidden bool
}

// Assembled is what Assemble made.
type Assembled struct {
	// Image is the one for this host's platform, or else the first.
	Image *Image
	// Target is what the names stand for: a manifest, or the index of several.
	Target ocispec.Descriptor
	// Manifests and Configs describe the images, in the order of the parts.
	Manifests, Configs []ocispec.Descriptor
}

// Assemble makes an image of layers that are in the store and leased, or an
// index of several images for different platforms, and gives it its names: all
// of them or, if that fails, some. It makes sure that the layers survive a loss
// of power before anything refers to them.
//
// It is what a build ends with. l keeps the layers, and what is made until it
// has a name.
func (s *Store) Assemble(ctx context.Context, l *store.Lease, parts []Parts, opts *AssembleOptions) (*Assembled, error) {
	if opts == nil {
		opts = &AssembleOptions{}
	}
	a, err := s.assemble(ctx, l, parts, opts)
	if err != nil {
		return nil, fault.New("image assemble", firstOf(opts.Names), err)
	}
	return a, nil
}

func firstOf(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return names[0]
}

func (s *Store) assemble(ctx context.Context, l *store.Lease, parts []Parts, opts *AssembleOptions) (*Assembled, error) {
	if len(parts) == 0 {
		return nil, fault.Invalid("an image was to be made of nothing")
	}
	names := make([]string, 0, len(opts.Names))
	for _, text := range opts.Names {
		name, err := newName(text)
		if err != nil {
			return nil, err
		}
		if name != "" {
			names = append(names, name)
		}
	}
	a := &Assembled{}
	var all []store.Name
	for _, p := range parts {
		n, err := s.assemblePart(ctx, l, a, &p)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	n, err := chosenPart(a, all)
	if err != nil {
		return nil, err
	}
	a.Target = a.Manifests[0]
	if len(parts) > 1 || opts.Index {
		if a.Target, err = s.assembleIndex(ctx, l, a.Manifests); err != nil {
			return nil, err
		}
	}
	step.At("image.blobs")
	n.Target, n.MediaType = a.Target.Digest, a.Target.MediaType
	if opts.Hidden {
		a.Image, err = s.open(&n)
		return a, err
	}
	a.Image, err = s.name(ctx, opts.Action, n, names...)
	return a, err
}

// assemblePart stores the config and manifest of one platform's image.
func (s *Store) assemblePart(ctx context.Context, l *store.Lease, a *Assembled, p *Parts) (n store.Name, err error) {
	config, err := parseConfig(p.Config)
	if err != nil {
		return n, fault.Invalid("the configuration of the image is no JSON of one: %w", err)
	}
	if err := s.durable(ctx, l, config.RootFS.DiffIDs, p.Layers); err != nil {
		return n, err
	}
	id, err := s.s.PutBlob(ctx, l, p.Config)
	if err != nil {
		return n, err
	}
	c := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: id, Size: int64(len(p.Config))}
	layers := p.Layers
	if layers == nil {
		layers = []ocispec.Descriptor{} // null is not what the specification has
	}
	data, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: c, Layers: layers, Annotations: p.Annotations,
	})
	if err != nil {
		return n, err
	}
	manifest, err := s.s.PutBlob(ctx, l, data)
	if err != nil {
		return n, err
	}
	// What is about to be named must be an image that can be read.
	if _, err := s.s.Image(manifest); err != nil {
		return n, err
	}
	platform := normal(config.Image.Platform)
	a.Configs = append(a.Configs, c)
	a.Manifests = append(a.Manifests, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: manifest, Size: int64(len(data)), Platform: &platform})
	return store.Name{Target: manifest, MediaType: ocispec.MediaTypeImageManifest, Manifest: manifest, ImageID: id, Platform: formatPlatform(platform)}, nil
}

// durable syncs those layers of which there is no blob: the image has nothing
// else.
func (s *Store) durable(ctx context.Context, l *store.Lease, diffs []digest.Digest, layers []ocispec.Descriptor) error {
	for _, d := range diffs {
		if err := store.CheckDigest(d); err != nil {
			return err
		}
	}
	if len(diffs) != len(layers) {
		return fault.Invalid("the configuration lists %d layers, there are %d", len(diffs), len(layers))
	}
	chains := store.ChainIDs(diffs)
	if err := l.AddLayers(ctx, chains...); err != nil {
		return err
	}
	var bare []string
	for i, d := range layers {
		if err := l.Add(ctx, d.Digest); err != nil {
			return err
		}
		if _, ok := s.s.HasBlob(d.Digest); !ok {
			bare = append(bare, chains[i])
		}
	}
	missing, err := s.s.MissingLayers(bare)
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("layer %s: %w", missing[0], store.ErrMissing)
	}
	if err != nil {
		return err
	}
	return s.s.SyncedLayers(ctx, bare)
}

// chosenPart is the image that the names are about here.
func chosenPart(a *Assembled, all []store.Name) (store.Name, error) {
	if len(all) == 1 {
		return all[0], nil
	}
	e, err := choose(a.Manifests, hostPlatform())
	if err != nil {
		e = a.Manifests[0]
	}
	for _, n := range all {
		if n.Manifest == e.Digest {
			return n, nil
		}
	}
	return all[0], nil
}

func (s *Store) assembleIndex(ctx context.Context, l *store.Lease, entries []ocispec.Descriptor) (d ocispec.Descriptor, err error) {
	data, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: entries})
	if err != nil {
		return d, err
	}
	target, err := s.s.PutBlob(ctx, l, data)
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: target, Size: int64(len(data))}, err
}
