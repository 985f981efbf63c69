package store

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/archive"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/step"
)

// StagedLayer is a layer's tree among the working files of a lease, before it
// is known or certain which layer it is.
type StagedLayer struct {
	Diff  digest.Digest // of the plain tar
	Plain int64         // size of the plain tar
	Bytes int64         // content of regular files

	dir     string // has diff/
	applied *archive.Applied
}

// summed counts and hashes what is written to it.
type summed struct {
	hash hash.Hash
	n    int64
}

func (s *summed) Write(p []byte) (int, error) {
	s.n += int64(len(p))
	return s.hash.Write(p)
}

func (st *StagedLayer) tree() string { return filepath.Join(st.dir, "diff") }

func (st *StagedLayer) remove() {
	if st != nil {
		removeTree(st.dir)
	}
}

// StageLayer unpacks a tar, compressed or not, that will be the lowest layer
// of an image, reading r to its end.
func (s *Store) StageLayer(ctx context.Context, l *Lease, r io.Reader) (*StagedLayer, error) {
	if err := CanUnpack(); err != nil {
		return nil, err
	}
	return s.stage(ctx, l, r, nil)
}

// stage applies r as opts say: nil for a layer with nothing below it.
func (s *Store) stage(ctx context.Context, l *Lease, r io.Reader, opts *archive.ApplyOptions) (_ *StagedLayer, err error) {
	work, err := l.Dir()
	if err != nil {
		return nil, err
	}
	st := &StagedLayer{dir: filepath.Join(work, randomID())}
	tree := st.tree()
	if err := os.MkdirAll(tree, 0o755); err != nil {
		return nil, s.trouble(err)
	}
	defer func() {
		if err != nil {
			st.remove()
		}
	}()
	sum := &summed{hash: sha256.New()}
	plain, _, err := archive.DecompressTee(r, sum)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	if st.applied, err = archive.Apply(ctx, tree, plain, opts); err != nil {
		return nil, s.diskTrouble(err)
	}
	// What follows the end of the archive belongs to the digests too, and the
	// end of r says that its content was verified.
	if _, err := io.Copy(io.Discard, plain); err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, err
	}
	st.Diff, st.Plain, st.Bytes = fromSum(sum.hash.Sum(nil)), sum.n, st.applied.Bytes
	if len(st.applied.SkippedXattrs) > 0 {
		s.logger().Warn("store: extended attributes of a layer cannot be kept here", "layer", st.Diff, "names", st.applied.SkippedXattrs)
	}
	return st, nil
}

// FinishLayer publishes a staged lowest layer and returns its chain id. The
// staged tree is gone afterwards, whatever happens.
func (s *Store) FinishLayer(ctx context.Context, l *Lease, st *StagedLayer) (string, error) {
	defer st.remove()
	chain := encoded(st.Diff)
	if err := l.AddLayers(ctx, chain); err != nil {
		return "", err
	}
	lock, err := flock.Acquire(ctx, s.layerLock(chain), flock.Exclusive)
	if err != nil {
		return "", s.lockTrouble(ctx, err)
	}
	defer lock.Release()
	if _, ok, err := s.Layer(chain); err != nil || ok {
		return chain, err
	}
	if err := s.discardLayer(chain); err != nil {
		return "", err
	}
	if err := s.publishLayer(st.dir, chain, LayerMeta{Diff: st.Diff, Size: st.Bytes, Tar: st.Plain}); err != nil {
		return "", err
	}
	step.At("unpack.renamed")
	s.SyncLayers([]string{chain})
	return chain, nil
}
