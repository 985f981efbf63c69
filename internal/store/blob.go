package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/fault"
)

// MaxMetadata is the largest manifest or config that is read into memory:
// 4 MiB is what the distribution specification asks registries to accept; some
// configs with long histories are larger.
const MaxMetadata = 8 << 20

// ErrMissing says that the store lacks a blob that something in it refers to.
// It is not fs.ErrNotExist: the image exists, but is damaged or incomplete.
var ErrMissing = errors.New("blob is missing from the store; pull or load the image again")

func (s *Store) blobPath(d digest.Digest) string {
	return s.path("blobs", "sha256", encoded(d))
}

// HasBlob reports whether a blob is there, and its size. Under a lease that
// names it, it stays.
func (s *Store) HasBlob(d digest.Digest) (int64, bool) {
	if CheckDigest(d) != nil {
		return 0, false
	}
	st, err := os.Stat(s.blobPath(d))
	if err != nil {
		return 0, false
	}
	return st.Size(), true
}

// OpenBlob opens a blob for reading; the error Is ErrMissing when it is not there.
func (s *Store) OpenBlob(d digest.Digest) (*os.File, error) {
	if err := CheckDigest(d); err != nil {
		return nil, err
	}
	f, err := os.Open(s.blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", d, ErrMissing)
	}
	if err != nil {
		return nil, fault.Opaque(err)
	}
	return f, nil
}

// ReadBlob reads a manifest or config and verifies its digest.
func (s *Store) ReadBlob(d digest.Digest) ([]byte, error) {
	f, err := s.OpenBlob(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxMetadata+1))
	if err != nil {
		return nil, fault.Opaque(err)
	}
	if len(data) > MaxMetadata {
		return nil, fmt.Errorf("%s is larger than the %d bytes that a manifest or config may have", d, MaxMetadata)
	}
	if got := digestOf(data); got != d {
		return nil, fmt.Errorf("blob %s is damaged: its content is %s; pull or load the image again", d, got)
	}
	return data, nil
}

// PutBlob stores a manifest or config. The lease names it first.
func (s *Store) PutBlob(ctx context.Context, l *Lease, data []byte) (digest.Digest, error) {
	d := digestOf(data)
	if err := l.Add(ctx, d); err != nil {
		return "", err
	}
	in, err := s.Ingest(ctx, d, int64(len(data)))
	if errors.Is(err, ErrStored) {
		return d, nil
	}
	if err != nil {
		return "", err
	}
	defer in.Close()
	if err := in.Restart(); err != nil {
		return "", err
	}
	if _, err := in.Write(data); err != nil {
		return "", err
	}
	return d, in.Commit()
}

// AdoptBlob makes a blob of a working file of the lease whose digest the
// caller computed while writing it. The file is gone afterwards.
func (s *Store) AdoptBlob(ctx context.Context, l *Lease, path string, d digest.Digest) error {
	if err := l.Add(ctx, d); err != nil {
		return err
	}
	if _, ok := s.HasBlob(d); ok {
		return s.trouble(os.Remove(path))
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return s.trouble(err)
	}
	defer f.Close()
	return s.publishBlob(f, path, d)
}
