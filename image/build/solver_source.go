package build

import (
	"context"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	contexts "github.com/amphora-go/amphora/internal/build/local"
	"github.com/amphora-go/amphora/internal/build/op"
	fetch "github.com/amphora-go/amphora/internal/build/source"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// Image returns the layers of an image that ImageConfig or LayoutConfig found.
func (s *solver) Image(ctx context.Context, _ *store.Lease, v *op.Vertex) (digest.Digest, []string, error) {
	var ref string
	switch o := v.Op.(type) {
	case *op.Image:
		ref = o.Ref
	case *op.Layout:
		ref = o.Ref
	}
	s.mu.Lock()
	b := s.bases[baseKey(ref, v.Platform)]
	s.mu.Unlock()
	if b == nil {
		return "", nil, fault.Invalid("%s: nothing is known of this image", ref)
	}
	layers, err := b.Layers(ctx)
	return b.Manifest(), layers, err
}

// Local returns the directory of one of the caller's trees, and where the
// digests of its files are remembered.
func (s *solver) Local(ctx context.Context, name string) (*contexts.Dir, error) {
	path, err := s.job.session.Dir(ctx, name)
	if err != nil {
		return nil, err
	}
	dir := &contexts.Dir{Path: path}
	if name == localDockerfile {
		return dir, nil // two files
	}
	d, err := s.cache.SourceDir(ctx, "local", path)
	if err != nil {
		return nil, err
	}
	dir.Stat = filepath.Join(d.Path(), "digests")
	// Any number of builds may use that file at once, and none needs it.
	return dir, d.Close()
}

// fetcher keeps what it downloads in the cache.
func (s *solver) fetcher() *fetch.Fetcher {
	dirs := func(ctx context.Context, kind, key string) (fetch.Dir, error) {
		d, err := s.cache.SourceDir(ctx, kind, key)
		if err != nil {
			return nil, err
		}
		return d, nil
	}
	return &fetch.Fetcher{Dirs: dirs, Secret: s.job.session.Secret, Agent: s.job.session.Agent}
}

// Identify says what fetching would give, Fetch puts it into a directory.
func (s *solver) Identify(ctx context.Context, v *op.Vertex) (string, error) {
	switch o := v.Op.(type) {
	case *op.HTTP:
		f, err := s.fetch.HTTP(ctx, o)
		if err != nil {
			return "", err
		}
		return f.Identity, nil
	case *op.Git:
		c, err := s.fetch.Git(ctx, o)
		if err != nil {
			return "", err
		}
		return c.Identity, nil
	}
	return "", fault.Unsupported("fetching %T", v.Op)
}

func (s *solver) Fetch(ctx context.Context, v *op.Vertex, into string) error {
	switch o := v.Op.(type) {
	case *op.HTTP:
		return s.fetch.PutHTTP(ctx, o, into)
	case *op.Git:
		return s.fetch.PutGit(ctx, o, into)
	}
	return fault.Unsupported("fetching %T", v.Op)
}
