package build

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/build/cache"
	"github.com/amphora-go/amphora/internal/build/solve"
	"github.com/amphora-go/amphora/internal/layers"
	"github.com/amphora-go/amphora/internal/store"
)

// cacheTag is the tag of a cache in a directory.
const cacheTag = "cache"

// cacheWriter writes the caches that a request wants.
type cacheWriter struct {
	x     *exporter
	cache *cache.Cache
	known []solve.Known
	to    []Cache
}

// describe says what is known, with the layers that have a place in an image.
func (w *cacheWriter) describe(at map[string]int) *remoteConfig {
	c := &remoteConfig{Version: remoteVersion, Entries: []remoteEntry{}}
	for _, k := range w.known {
		r := k.Record
		e := remoteEntry{ID: r.ID, Keys: k.Keys, Kind: r.Kind, Description: r.Description, Parents: r.Parents, Created: r.Created.UTC(), Content: r.Content, Size: r.Size}
		for _, name := range r.Layers {
			i, ok := at[layers.Target(w.x.store.Root(), name)]
			if !ok {
				i = -1
			}
			e.Layers = append(e.Layers, i)
		}
		c.Entries = append(c.Entries, e)
	}
	return c
}

// inline puts the cache into the configuration of an image that is made: what
// its own layers are.
func (w *cacheWriter) inline(config []byte, p *product) ([]byte, error) {
	if w == nil || !slices.ContainsFunc(w.to, func(c Cache) bool { return c.Inline }) {
		return config, nil
	}
	at := map[string]int{}
	for i, name := range p.layers {
		at[layers.Target(w.x.store.Root(), name)] = i
	}
	return withRemote(config, w.describe(at))
}

// write writes all caches that are not inline.
func (w *cacheWriter) write(ctx context.Context, products []product) error {
	for _, c := range w.to {
		if c.Inline {
			continue
		}
		err := w.x.stepped("exporting cache to "+c.Ref+c.Dir, func(func(string)) error { return w.one(ctx, c, products) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *cacheWriter) one(ctx context.Context, c Cache, products []product) error {
	names, err := w.chosen(ctx, c.Max, products)
	if err != nil {
		return err
	}
	made, err := w.image(ctx, names)
	if err != nil {
		return err
	}
	if c.Dir != "" {
		return w.x.images.SaveDirAssembled(ctx, w.x.lease, c.Dir, made, []string{"build:" + cacheTag})
	}
	_, err = w.x.images.PushAssembled(ctx, w.x.lease, made, c.Ref, nil)
	return err
}

// chosen are the layers that the cache gets: those of the results, or all that
// are here. What a base image has is in that image.
func (w *cacheWriter) chosen(ctx context.Context, all bool, products []product) (names []string, err error) {
	wanted := map[string]bool{}
	for _, p := range products {
		for _, name := range p.layers {
			wanted[layers.Target(w.x.store.Root(), name)] = true
		}
	}
	for _, k := range w.known {
		for _, name := range k.Record.Layers {
			if name = layers.Target(w.x.store.Root(), name); !all && !wanted[name] || slices.Contains(names, name) || len(names) == store.MaxLayers {
				continue
			}
			here, err := w.cache.Present(ctx, w.x.lease, []string{name})
			if err != nil {
				return nil, err
			}
			if here {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// image makes the image that the cache is. Nobody will run it: its layers are
// just listed.
func (w *cacheWriter) image(ctx context.Context, names []string) (*image.Assembled, error) {
	part := image.Parts{}
	root := ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}
	at := map[string]int{}
	var made []made
	for _, name := range names {
		m, blob, err := w.layer(ctx, name)
		if err != nil {
			return nil, err
		}
		if i := slices.Index(root.DiffIDs, m.diff); i >= 0 {
			at[name] = i
			continue
		}
		at[name] = len(root.DiffIDs)
		root.DiffIDs, part.Layers, made = append(root.DiffIDs, m.diff), append(part.Layers, blob), append(made, m)
	}
	var own []string
	for i := range made {
		for name, k := range at {
			if k == i {
				own = append(own, name)
				break
			}
		}
	}
	if err := w.x.share(ctx, own, made); err != nil {
		return nil, err
	}
	p := hostPlatform()
	config, err := json.Marshal(map[string]any{"os": p.OS, "architecture": p.Architecture, "config": struct{}{}, "rootfs": root, remoteField: w.describe(at)})
	if err != nil {
		return nil, err
	}
	part.Config = config
	return w.x.images.Assemble(ctx, w.x.lease, []image.Parts{part}, &image.AssembleOptions{Hidden: true})
}

func (w *cacheWriter) layer(ctx context.Context, name string) (made, ocispec.Descriptor, error) {
	diff, size, err := w.x.store.DiffID(ctx, name)
	return made{diff: diff}, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: diff, Size: size}, err
}
