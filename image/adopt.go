package image

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// Adopt copies what a digest stands for in a directory with an OCI layout, a
// manifest or an index with all that it refers to, into the store. It gets no
// name: the lease keeps it. Parts of an index that the directory lacks are
// left out.
func (s *Store) Adopt(ctx context.Context, l *store.Lease, dir string, d digest.Digest) error {
	root, err := os.OpenRoot(dir)
	if err == nil {
		defer root.Close()
		err = (&adoption{s, l, root}).document(ctx, d, 0)
	}
	if err != nil {
		return fault.New("image load", dir, fault.Opaque(err))
	}
	return nil
}

// adoption is a layout that is being copied.
type adoption struct {
	s    *Store
	l    *store.Lease
	root *os.Root
}

func (a *adoption) open(d digest.Digest) (*os.File, int64, error) {
	if err := store.CheckDigest(d); err != nil {
		return nil, 0, err
	}
	f, err := a.root.Open("blobs/sha256/" + d.Encoded())
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fault.Invalid("the blob %s is no file", d)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

func (a *adoption) document(ctx context.Context, d digest.Digest, depth int) error {
	if depth > maxNesting {
		return fault.Invalid("indexes are nested more than %d deep", maxNesting)
	}
	data, err := a.metadata(ctx, d)
	if err != nil {
		return err
	}
	entries, isIndex, err := store.ParseIndex(data)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := a.document(ctx, e.Digest, depth+1); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if isIndex {
		return nil
	}
	img, config, err := store.ParseManifest(data)
	if err != nil {
		return err
	}
	if _, err := a.metadata(ctx, config.Digest); err != nil {
		return err
	}
	for _, layer := range img.Layers {
		if err := a.blob(ctx, layer.Blob.Digest); err != nil {
			return err
		}
	}
	return nil
}

// metadata copies a small blob and returns it.
func (a *adoption) metadata(ctx context.Context, d digest.Digest) ([]byte, error) {
	if err := a.blob(ctx, d); err != nil {
		return nil, err
	}
	if size, _ := a.s.s.HasBlob(d); size > store.MaxMetadata {
		return nil, fault.Invalid("%s has %d bytes, more than the %d allowed", d, size, store.MaxMetadata)
	}
	return a.s.s.ReadBlob(d)
}

// blob copies a blob that the store lacks; its digest is verified.
func (a *adoption) blob(ctx context.Context, d digest.Digest) error {
	f, size, err := a.open(d)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := a.l.Add(ctx, d); err != nil {
		return err
	}
	in, err := a.s.s.Ingest(ctx, d, size)
	if errors.Is(err, store.ErrStored) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	if in.Offset() > 0 { // what another download left
		if err := in.Restart(); err != nil {
			return err
		}
	}
	if _, err := io.Copy(in, &contextReader{ctx, f}); err != nil {
		return err
	}
	return in.Commit()
}

// contextReader stops with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
