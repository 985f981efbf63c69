package build

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// remotes are the caches of the request. One that cannot be read, or is not
// there yet, is a warning: the build does without.
func (s *solver) remotes() *remotes {
	r := &remotes{store: s.store}
	r.open = func(ctx context.Context) (all []*imported) {
		for _, c := range s.job.request.CacheFrom {
			if c.Ref == "" && c.Dir == "" {
				continue
			}
			m, err := s.importCache(ctx, c)
			if err != nil {
				s.job.warn(Warning{Text: fmt.Sprintf("the cache %s%s is not used: %v", c.Ref, c.Dir, err)})
				continue
			}
			all = append(all, m)
		}
		return all
	}
	return r
}

func (s *solver) importCache(ctx context.Context, c Cache) (*imported, error) {
	if c.Dir != "" {
		return openLayoutCache(c.Dir)
	}
	p := hostPlatform()
	b, err := s.images.Base(ctx, s.build.Lease(), c.Ref, &image.BaseOptions{Platform: p, Always: true})
	if err != nil { // perhaps an image of this store, with an inline cache
		var here error
		if b, here = s.images.Base(ctx, s.build.Lease(), c.Ref, &image.BaseOptions{Platform: p, Never: true}); here != nil {
			return nil, err
		}
	}
	m, err := newImported(c.Ref, b.Config(), b)
	if err != nil {
		b.Close()
	}
	return m, err
}

// layoutCache is a cache in a directory.
type layoutCache struct {
	root   *os.Root
	layers []ocispec.Descriptor
}

func openLayoutCache(dir string) (_ *imported, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	p := &layoutCache{root: root}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	data, err := root.ReadFile(ocispec.ImageIndexFile)
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fault.Invalid("%s is malformed: %w", ocispec.ImageIndexFile, err)
	}
	for _, d := range index.Manifests {
		if len(index.Manifests) > 1 && d.Annotations[ocispec.AnnotationRefName] != cacheTag {
			continue
		}
		var m ocispec.Manifest
		if data, err = p.blob(d.Digest); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(data, &m); err != nil {
			return nil, fault.Invalid("manifest %s is malformed: %w", d.Digest, err)
		}
		if data, err = p.blob(m.Config.Digest); err != nil {
			return nil, err
		}
		p.layers = m.Layers
		return newImported(dir, data, p)
	}
	return nil, fault.Invalid("the directory has no cache")
}

// blob reads a small blob and verifies it.
func (p *layoutCache) blob(d digest.Digest) ([]byte, error) {
	f, err := p.open(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCacheConfig+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxCacheConfig || digest.FromBytes(data) != d {
		return nil, fault.Invalid("blob %s is damaged, or too large", d)
	}
	return data, nil
}

// maxCacheConfig is what the store reads of any configuration.
const maxCacheConfig = store.MaxMetadata

func (p *layoutCache) open(d digest.Digest) (*os.File, error) {
	if err := store.CheckDigest(d); err != nil {
		return nil, err
	}
	return p.root.Open(ocispec.ImageBlobsDir + "/sha256/" + d.Encoded())
}

// Layer opens a blob. Whoever unpacks it verifies what it is.
func (p *layoutCache) Layer(_ context.Context, i int) (io.ReadCloser, error) {
	if i >= len(p.layers) {
		return nil, fault.Invalid("the cache lacks layer %d", i)
	}
	return p.open(p.layers[i].Digest)
}

func (p *layoutCache) Close() { p.root.Close() }
