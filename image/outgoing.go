package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// document is a manifest or index, byte for byte.
type document struct {
	digest    digest.Digest
	mediaType string
	data      []byte
}

func newDocument(data []byte) document {
	return document{digest.FromBytes(data), store.MediaType(data), data}
}

func (d document) descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.mediaType, Digest: d.digest, Size: int64(len(d.data))}
}

// blobFile is a blob being read.
type blobFile interface {
	io.ReadCloser
	io.ReaderAt
}

// content is a blob that leaves the store.
type content struct {
	ocispec.Descriptor
	layer bool
	diff  digest.Digest // of a layer's plain tar
	chain string        // of a layer: where it is unpacked
	// open gives its bytes, which the caller closes. Nil: the blob is not
	// here, but the layer is unpacked.
	open func(ctx context.Context) (blobFile, error)
	path string // where it was made, among the lease's working files
}

// outgoing is what leaves the store under one name.
type outgoing struct {
	// documents has what others refer to before those: the last is the top.
	documents []document
	contents  []*content // each once
}

func (o *outgoing) top() document { return o.documents[len(o.documents)-1] }

// hasDocument is asked before an index is opened, too: indexes that list one
// another many times over would take for ever.
func (o *outgoing) hasDocument(d digest.Digest) bool {
	return slices.ContainsFunc(o.documents, func(have document) bool { return have.digest == d })
}

func (o *outgoing) addDocument(d document) {
	if !o.hasDocument(d.digest) {
		o.documents = append(o.documents, d)
	}
}

func (o *outgoing) addContent(c *content) {
	if !slices.ContainsFunc(o.contents, func(have *content) bool { return have.Digest == c.Digest }) {
		o.contents = append(o.contents, c)
	}
}

// gatherer collects what leaves the store.
type gatherer struct {
	s     *Store
	lease *store.Lease
	// platform is the only one wanted; "" for all that are here.
	platform string
	opened   map[digest.Digest]bool // by flatten, each once
	whole    bool                   // an index goes as it is or not at all
	// elsewhere reports whether a manifest that is not here is at the
	// destination already. Nil: it is not.
	elsewhere func(ctx context.Context, d digest.Digest) bool
}

// gather lists what goes with a name: all of its index if all of that is
// there, else an index of what is there, or one image alone.
func (g *gatherer) gather(ctx context.Context, n *store.Name) (*outgoing, error) {
	if err := g.lease.Add(ctx, n.Target, n.Manifest); err != nil {
		return nil, err
	}
	data, err := g.s.s.ReadBlob(n.Target)
	if errors.Is(err, store.ErrMissing) {
		data, err = g.s.s.ReadBlob(n.Manifest)
	}
	if err != nil {
		return nil, err
	}
	out := &outgoing{}
	entries, isIndex, err := store.ParseIndex(data)
	switch {
	case err != nil:
		return nil, fault.Opaque(err)
	case !isIndex && g.platform == "":
		return out, g.image(ctx, out, data)
	case !isIndex:
		return out, g.single(ctx, out, data)
	case g.platform != "":
		return out, g.onePlatform(ctx, out, entries)
	}
	return out, g.index(ctx, out, data, entries)
}

// single adds an image if it is for the platform wanted.
func (g *gatherer) single(ctx context.Context, out *outgoing, data []byte) error {
	want, err := parsePlatform(g.platform)
	if err != nil {
		return err
	}
	img, err := g.s.s.Image(digest.FromBytes(data))
	if err != nil {
		return err
	}
	config, err := parseConfig(img.Config)
	if err != nil {
		return fault.Opaque(err)
	}
	if matches(want, config.Image.Platform) < 0 {
		return noPlatform(want, []string{formatPlatform(config.Image.Platform)})
	}
	return g.image(ctx, out, data)
}

func (g *gatherer) onePlatform(ctx context.Context, out *outgoing, entries []ocispec.Descriptor) error {
	want, err := parsePlatform(g.platform)
	if err != nil {
		return err
	}
	flat, err := g.flatten(ctx, entries, 0)
	if err != nil {
		return err
	}
	e, err := choose(flat, want)
	if err != nil {
		return err
	}
	data, err := g.read(ctx, e.Digest)
	if errors.Is(err, store.ErrMissing) {
		return fault.NotExist("the store has no image for platform %s under this name; pull it with that platform first", formatPlatform(want))
	}
	if err != nil {
		return err
	}
	return g.image(ctx, out, data)
}

func (g *gatherer) read(ctx context.Context, d digest.Digest) ([]byte, error) {
	if err := g.lease.Add(ctx, d); err != nil {
		return nil, err
	}
	return g.s.s.ReadBlob(d)
}

// index adds what an index lists, and the index if that is all of it.
func (g *gatherer) index(ctx context.Context, out *outgoing, data []byte, entries []ocispec.Descriptor) error {
	whole := &outgoing{}
	complete, err := g.entries(ctx, whole, entries, 0)
	if err != nil {
		return err
	}
	if complete {
		*out = *whole
		out.addDocument(newDocument(data))
		return nil
	}
	if g.whole {
		return fmt.Errorf("the index is not complete: %w; or push those of its images first that are not here", store.ErrMissing)
	}
	flat, err := g.flatten(ctx, entries, 0)
	if err != nil {
		return err
	}
	var kept []ocispec.Descriptor
	for _, e := range flat {
		part := &outgoing{}
		have, err := g.entry(ctx, part, e, maxNesting)
		if err != nil {
			return err
		}
		// What describes an image that is not here has nothing to say.
		if !have || len(part.documents) == 0 || store.IsAttestation(e) {
			continue
		}
		kept = append(kept, e)
		out.documents = append(out.documents, part.documents...)
		for _, c := range part.contents {
			out.addContent(c)
		}
	}
	switch len(kept) {
	case 0:
		return fmt.Errorf("none of the %d images of the index is complete: %w", len(entries), store.ErrMissing)
	case 1:
		return nil
	}
	smaller, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: store.MediaType(data), Manifests: kept})
	if err != nil {
		return err
	}
	out.addDocument(newDocument(smaller))
	return nil
}

// flatten lists the entries of an index, those of indexes within it in their
// place. Indexes that are not here are left out.
func (g *gatherer) flatten(ctx context.Context, entries []ocispec.Descriptor, depth int) ([]ocispec.Descriptor, error) {
	if depth > maxNesting {
		return nil, fault.Invalid("indexes are nested more than %d deep", maxNesting)
	}
	var out []ocispec.Descriptor
	for _, e := range entries {
		if !isIndexType(e.MediaType) {
			out = append(out, e)
			continue
		}
		if g.opened[e.Digest] {
			continue
		}
		if g.opened == nil {
			g.opened = map[digest.Digest]bool{}
		}
		g.opened[e.Digest] = true
		data, err := g.read(ctx, e.Digest)
		if errors.Is(err, store.ErrMissing) {
			continue
		}
		if err != nil {
			return nil, err
		}
		inner, _, err := store.ParseIndex(data)
		if err != nil {
			return nil, fault.Opaque(err)
		}
		more, err := g.flatten(ctx, inner, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

// entries adds everything that an index lists; false if something is missing.
func (g *gatherer) entries(ctx context.Context, out *outgoing, entries []ocispec.Descriptor, depth int) (bool, error) {
	for _, e := range entries {
		have, err := g.entry(ctx, out, e, depth)
		if err != nil || !have {
			return false, err
		}
	}
	return true, nil
}

func (g *gatherer) entry(ctx context.Context, out *outgoing, e ocispec.Descriptor, depth int) (bool, error) {
	if depth > maxNesting {
		return false, fault.Invalid("indexes are nested more than %d deep", maxNesting)
	}
	if out.hasDocument(e.Digest) {
		return true, nil
	}
	data, err := g.read(ctx, e.Digest)
	if err == nil {
		if inner, isIndex, perr := store.ParseIndex(data); perr != nil {
			return false, fault.Opaque(perr)
		} else if isIndex {
			if have, err := g.entries(ctx, out, inner, depth+1); err != nil || !have {
				return false, err
			}
			out.addDocument(newDocument(data))
			return true, nil
		}
		part := &outgoing{}
		if err = g.image(ctx, part, data); err == nil {
			for _, c := range part.contents {
				out.addContent(c)
			}
			out.addDocument(part.top())
			return true, nil
		}
	}
	if !errors.Is(err, store.ErrMissing) {
		return false, err
	}
	return g.elsewhere != nil && g.elsewhere(ctx, e.Digest), nil
}

// image adds a manifest with its config and layers. The error Is ErrMissing
// when one of them is not here and cannot be made.
func (g *gatherer) image(ctx context.Context, out *outgoing, data []byte) error {
	var m ocispec.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return fault.Opaque(err)
	}
	blobs := append([]ocispec.Descriptor{m.Config}, m.Layers...)
	digests := make([]digest.Digest, len(blobs))
	for i, b := range blobs {
		digests[i] = b.Digest
	}
	if err := g.lease.Add(ctx, digests...); err != nil {
		return err
	}
	img := g.layersOf(data)
	for i, b := range blobs {
		if foreign(b) {
			continue
		}
		c := &content{Descriptor: b, layer: i > 0}
		if i > 0 && img != nil {
			c.diff, c.chain = img.Layers[i-1].Diff, img.Layers[i-1].Chain
			if err := g.lease.AddLayers(ctx, c.chain); err != nil {
				return err
			}
		}
		if size, ok := g.s.s.HasBlob(b.Digest); ok {
			c.Size = size
			c.open = func(context.Context) (blobFile, error) { return g.s.s.OpenBlob(b.Digest) }
		} else if !g.unpacked(c) {
			return fmt.Errorf("%s: %w", b.Digest, store.ErrMissing)
		}
		out.addContent(c)
	}
	out.addDocument(newDocument(data))
	return nil
}

// layersOf reads what a manifest's config says about its layers; nil for
// artifacts that are no images.
func (g *gatherer) layersOf(data []byte) *store.Image {
	img, _, err := store.ParseManifest(data)
	if err != nil {
		return nil
	}
	config, err := g.s.s.ReadBlob(img.ID)
	if err != nil || img.SetConfig(config) != nil {
		return nil
	}
	return img
}

func (g *gatherer) unpacked(c *content) bool {
	if c.chain == "" {
		return false
	}
	_, ok, err := g.s.s.Layer(c.chain)
	return ok && err == nil
}

// foreign layers come from where their descriptor says, never from or to a
// registry: Windows base images had such.
func foreign(d ocispec.Descriptor) bool {
	return len(d.URLs) > 0 && (strings.Contains(d.MediaType, ".foreign.") || strings.Contains(d.MediaType, ".nondistributable."))
}
