package build

import (
	"context"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	contexts "github.com/amphora-go/amphora/internal/build/local"
	"github.com/amphora-go/amphora/internal/build/op"
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

// Identify says what fetching would give, Fetch puts it into a directory.
func (s *solver) Identify(ctx context.Context, v *op.Vertex) (string, error) {
	return "", fault.Unsupported("fetching")
}

func (s *solver) Fetch(ctx context.Context, v *op.Vertex, into string) error {
	return fault.Unsupported("fetching")
}
