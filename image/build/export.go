package build

import (
	"context"
	"runtime"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/store"
)

// product is what the frontend and the solver made for one platform.
type product struct {
	platform string     // such as "linux/arm64"
	config   []byte     // the frontend's, without layers and times
	base     []byte     // configuration of the image that it begins with; nil: scratch
	layers   []string   // names in the store, bottom to top; the lease keeps them
	epoch    *time.Time // SOURCE_DATE_EPOCH; nil: times stay
}

// exporter brings products to where they are wanted.
type exporter struct {
	images *image.Store
	store  *store.Store
	lease  *store.Lease
	// bases are the manifests of images whose layers products may have: their
	// blobs are referred to, as those images do.
	bases []digest.Digest
	names []string
	index bool         // also of one platform alone
	tell  func(Event)  // may be nil
	cache *cacheWriter // nil: nothing is kept elsewhere
}

// parts turns products into what images are made of, without naming anything.
func (x *exporter) parts(ctx context.Context, products []product) ([]image.Parts, error) {
	parts := make([]image.Parts, len(products))
	for i, p := range products {
		var err error
		if parts[i], err = x.part(ctx, &p); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

func (x *exporter) part(ctx context.Context, p *product) (image.Parts, error) {
	known, err := x.blobs(ctx, p.layers)
	if err != nil {
		return image.Parts{}, err
	}
	all := make([]made, len(p.layers))
	names := make([]string, len(p.layers))
	blobs := make([]ocispec.Descriptor, len(p.layers))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(2, runtime.NumCPU()))
	for i, name := range p.layers {
		g.Go(func() (err error) {
			names[i], all[i], blobs[i], err = x.layer(gctx, p, name, known)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return image.Parts{}, err
	}
	step.At("export.diffs")
	if err := x.share(ctx, names, all); err != nil {
		return image.Parts{}, err
	}
	step.At("export.shared")
	config, err := finish(p.config, p.base, all, p.epoch)
	if err != nil {
		return image.Parts{}, err
	}
	if config, err = x.cache.inline(config, p); err != nil {
		return image.Parts{}, err
	}
	return image.Parts{Config: config, Layers: blobs}, nil
}

// share gives the layers the names that they have in the image. Those of a base
// image have them.
func (x *exporter) share(ctx context.Context, names []string, all []made) (err error) {
	diffs := make([]digest.Digest, len(all))
	for i, m := range all {
		diffs[i] = m.diff
	}
	parent := ""
	for i, chain := range store.ChainIDs(diffs) {
		if names[i] == chain {
			parent = chain
		} else if parent, err = x.store.Share(ctx, x.lease, names[i], parent); err != nil {
			return err
		}
	}
	return nil
}

// layer finds out what a layer is called in images. One that came with an image
// is taken as it is. One that a build made has no blob: whoever needs it makes
// it from the files, see image.PushOptions.Compress.
func (x *exporter) layer(ctx context.Context, p *product, name string, known map[digest.Digest]ocispec.Descriptor) (string, made, ocispec.Descriptor, error) {
	when, err := x.store.LayerTime(name)
	if err != nil {
		return "", made{}, ocispec.Descriptor{}, err
	}
	m, ok, err := x.store.Layer(name)
	if err != nil {
		return "", made{}, ocispec.Descriptor{}, err
	}
	if blob, is := known[m.Diff]; ok && is {
		return name, made{m.Diff, when}, blob, nil
	}
	if p.epoch != nil {
		if name, err = x.store.Clamped(ctx, x.lease, name, *p.epoch); err != nil {
			return "", made{}, ocispec.Descriptor{}, err
		}
	}
	diff, size, err := x.store.DiffID(ctx, name)
	return name, made{diff, when}, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: diff, Size: size}, err
}

// blobs describes the layers of the base images by their diff ids. Layers that
// came with another image, by way of the cache, are looked for in all of them.
func (x *exporter) blobs(ctx context.Context, layers []string) (map[digest.Digest]ocispec.Descriptor, error) {
	known := map[digest.Digest]ocispec.Descriptor{}
	for _, d := range x.bases {
		if err := x.describe(known, d); err != nil {
			return nil, err
		}
	}
	var diffs []digest.Digest
	for _, name := range layers {
		m, ok, err := x.store.Layer(name)
		if err != nil || !ok || m.Diff == "" {
			break // a build made it, and what is above
		}
		if diffs = append(diffs, m.Diff); store.ChainIDs(diffs)[len(diffs)-1] != name {
			break
		}
		if _, ok := known[m.Diff]; ok {
			continue
		}
		names, err := x.store.Names(ctx)
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			x.describe(known, n.Manifest) // one that is damaged has nothing to say
		}
		return known, nil
	}
	return known, nil
}

// describe adds the layers of an image, in OCI's words.
func (x *exporter) describe(known map[digest.Digest]ocispec.Descriptor, manifest digest.Digest) error {
	img, err := x.store.Image(manifest)
	if err != nil {
		return err
	}
	for _, l := range img.Layers {
		blob := ocispec.Descriptor{MediaType: ociLayer(l.Blob.MediaType), Digest: l.Blob.Digest, Size: l.Blob.Size, URLs: l.Blob.URLs}
		if have, ok := known[l.Diff]; !ok || have.MediaType == ocispec.MediaTypeImageLayer {
			known[l.Diff] = blob
		}
	}
	return nil
}

// ociLayer is OCI's media type for Docker's.
func ociLayer(mediaType string) string {
	const docker = "application/vnd.docker.image.rootfs.diff.tar"
	format, ok := strings.CutPrefix(mediaType, docker)
	if !ok {
		return mediaType
	}
	return ocispec.MediaTypeImageLayer + strings.Replace(format, ".", "+", 1)
}

// image makes the image, or the index of several, and names it.
func (x *exporter) image(ctx context.Context, parts []image.Parts, named bool) (*image.Assembled, error) {
	o := &image.AssembleOptions{Action: "build", Names: x.names, Hidden: !named, Index: x.index}
	return x.images.Assemble(ctx, x.lease, parts, o)
}
