package image

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// Document is a manifest or index, as its digest covers it.
type Document struct {
	Ref       Ref
	Digest    string
	MediaType string
	Data      []byte
}

// Document returns what a name stands for, here or else in its registry: an
// index (manifest list), or the manifest of a single image. Nothing is kept.
func (s *Store) Document(ctx context.Context, name string) (*Document, error) {
	d, err := s.readDocument(ctx, name)
	if err != nil {
		return nil, fault.New("image document", name, err)
	}
	return d, nil
}

func (s *Store) readDocument(ctx context.Context, name string) (*Document, error) {
	var data []byte
	n, err := s.find(ctx, name)
	if err == nil {
		data, err = s.s.ReadBlob(n.Target)
	}
	ref, refErr := parseRef(name)
	if errors.Is(err, fs.ErrNotExist) && refErr == nil {
		err = s.withPuller(ctx, ref, func(p *puller) (err error) {
			_, data, err = p.top(ctx, ref)
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	d := newDocument(data)
	return &Document{ref, string(d.digest), d.mediaType, data}, nil
}

// withPuller runs f with what asks registries for ref, under a lease.
func (s *Store) withPuller(ctx context.Context, ref Ref, f func(*puller) error) (err error) {
	p := &puller{s: s, opts: &PullOptions{}, stall: stallTimeout, want: hostPlatform()}
	if p.sources, err = s.sources(ref, 0); err != nil {
		return err
	}
	defer p.close()
	if p.lease, err = s.s.Lease(ctx); err != nil {
		return err
	}
	defer p.lease.Close()
	return f(p)
}

// EditIndex makes the index of that name, or changes the one that is there: the
// function gets its content, empty for a new one, and returns what it is to
// be. The manifest of every entry must be here: AddToIndex sees to it. It returns the digest.
//
// An index is pushed by Push, with PushOptions.Whole for all or nothing.
func (s *Store) EditIndex(ctx context.Context, name string, edit func(index *ocispec.Index) error) (string, error) {
	d, err := s.editIndex(ctx, name, edit)
	return string(d), fault.New("image index", name, err)
}

func (s *Store) editIndex(ctx context.Context, name string, edit func(*ocispec.Index) error) (digest.Digest, error) {
	ref, err := parseRef(name)
	if err != nil {
		return "", err
	}
	if ref.Digest != "" {
		return "", fault.Invalid("a name with a digest cannot be given, it is what it is; leave %q away", "@"+ref.Digest)
	}
	l, err := s.s.Lease(ctx)
	if err != nil {
		return "", err
	}
	defer l.Close()
	index := &ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	old, err := s.s.Name(ctx, ref.String())
	if err == nil {
		if index, err = s.readIndex(ctx, l, old); err != nil {
			return "", err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := edit(index); err != nil {
		return "", err
	}
	n, data, err := s.indexName(ctx, l, index)
	if err != nil {
		return "", err
	}
	if n.Target, err = s.s.PutBlob(ctx, l, data); err != nil {
		return "", err
	}
	n.Name, n.MediaType = ref.String(), index.MediaType
	return n.Target, s.s.UpdateNames(ctx, func(tx *store.NamesTx) error {
		if have := tx.Get(n.Name); (have == nil) != (old == nil) || have != nil && have.Target != old.Target {
			return fault.Kind(fs.ErrExist, "somebody else changed it meanwhile; try again")
		}
		return tx.Give(ctx, "index", *n)
	})
}

func (s *Store) readIndex(ctx context.Context, l *store.Lease, n *store.Name) (*ocispec.Index, error) {
	if err := l.Add(ctx, n.Target); err != nil {
		return nil, err
	}
	data, err := s.s.ReadBlob(n.Target)
	if err != nil {
		return nil, err
	}
	if _, isIndex, err := store.ParseIndex(data); err != nil || !isIndex {
		return nil, fault.Kind(fs.ErrExist, "the name belongs to a single image; choose another one")
	}
	index := new(ocispec.Index)
	return index, fault.Opaque(json.Unmarshal(data, index))
}

// indexName checks that the entries are here and says which of them is the
// image that the name stands for on this machine.
func (s *Store) indexName(ctx context.Context, l *store.Lease, index *ocispec.Index) (*store.Name, []byte, error) {
	if len(index.Manifests) == 0 {
		return nil, nil, fault.Invalid("an index needs at least one image")
	}
	for _, e := range index.Manifests {
		if err := l.Add(ctx, e.Digest); err != nil {
			return nil, nil, err
		}
		if _, err := s.s.ReadBlob(e.Digest); err != nil {
			return nil, nil, err
		}
	}
	best, err := choose(index.Manifests, hostPlatform())
	if err != nil {
		best = index.Manifests[0]
	}
	img, err := s.s.Image(best.Digest)
	if err != nil {
		return nil, nil, err
	}
	if err := l.AddImage(ctx, img); err != nil {
		return nil, nil, err
	}
	config, err := parseConfig(img.Config)
	if err != nil {
		return nil, nil, err
	}
	data, err := json.Marshal(index)
	return &store.Name{Manifest: img.Manifest, ImageID: img.ID, Platform: formatPlatform(config.Image.Platform)}, data, err
}

// AddToIndex adds images to an index, which it makes if there is none: those
// of this store, and else those of registries, of which manifest and config
// are fetched, but no layers. Those must be pushed from here (then pull them
// first) or be in the index's repository already. An entry with the same
// digest, or for the same platform, is replaced. Given another index, it adds
// its images. It returns the digest of the index.
func (s *Store) AddToIndex(ctx context.Context, name string, images ...string) (string, error) {
	l, err := s.s.Lease(ctx)
	if err != nil {
		return "", fault.New("image index", name, err)
	}
	defer l.Close()
	var add []ocispec.Descriptor
	for _, one := range images {
		entries, err := s.indexEntries(ctx, l, one)
		if err != nil {
			return "", fault.New("image index", name, fault.New("image", one, err))
		}
		add = append(add, entries...)
	}
	return s.EditIndex(ctx, name, func(index *ocispec.Index) error {
		for _, e := range add {
			index.Manifests = slices.DeleteFunc(index.Manifests, func(have ocispec.Descriptor) bool {
				return have.Digest == e.Digest || !store.IsAttestation(have) && have.Platform != nil && e.Platform != nil &&
					formatPlatform(*have.Platform) == formatPlatform(*e.Platform)
			})
			index.Manifests = append(index.Manifests, e)
		}
		return nil
	})
}

// indexEntries describes an image, or those of an index, for another index.
func (s *Store) indexEntries(ctx context.Context, l *store.Lease, name string) (entries []ocispec.Descriptor, err error) {
	n, err := s.find(ctx, name)
	if err == nil {
		g := &gatherer{s: s, lease: l}
		data, err := g.read(ctx, n.Target)
		if err != nil {
			return nil, err
		}
		return s.describe(data, func(d digest.Digest) ([]byte, error) { return g.read(ctx, d) })
	}
	ref, refErr := parseRef(name)
	if !errors.Is(err, fs.ErrNotExist) || refErr != nil {
		return nil, err
	}
	return entries, s.withPuller(ctx, ref, func(p *puller) error {
		p.lease.Close()
		p.lease = l // what is fetched must stay until the index has it
		_, data, err := p.top(ctx, ref)
		if err != nil {
			return err
		}
		entries, err = s.describe(data, func(d digest.Digest) ([]byte, error) {
			data, err := p.manifest(ctx, d)
			return data, err
		}, func(config ocispec.Descriptor) error {
			if err := l.Add(ctx, config.Digest); err != nil {
				return err
			}
			_, err := p.download(config).run(ctx)
			return err
		})
		return err
	})
}

// describe makes entries of a manifest or an index. Entries that read finds
// missing are left out.
func (s *Store) describe(data []byte, read func(digest.Digest) ([]byte, error), fetch ...func(ocispec.Descriptor) error) ([]ocispec.Descriptor, error) {
	inner, isIndex, err := store.ParseIndex(data)
	if err != nil {
		return nil, err
	}
	if !isIndex {
		img, config, err := store.ParseManifest(data)
		if err != nil {
			return nil, err
		}
		for _, f := range fetch {
			if err := f(*config); err != nil {
				return nil, err
			}
		}
		raw, err := s.s.ReadBlob(img.ID)
		if err != nil {
			return nil, err
		}
		c, err := parseConfig(raw)
		if err != nil {
			return nil, err
		}
		e := newDocument(data).descriptor()
		p := normal(c.Image.Platform)
		e.Platform = &p
		return []ocispec.Descriptor{e}, nil
	}
	var out []ocispec.Descriptor
	for _, e := range inner {
		data, err := read(e.Digest)
		if errors.Is(err, store.ErrMissing) || store.IsAttestation(e) || isIndexType(e.MediaType) {
			continue
		}
		if err != nil {
			return nil, err
		}
		one, err := s.describe(data, read, fetch...)
		if err != nil {
			return nil, err
		}
		one[0].Annotations = e.Annotations
		out = append(out, one...)
	}
	if len(out) == 0 {
		return nil, fault.NotExist("none of the images of the index is here; pull one")
	}
	return out, nil
}
