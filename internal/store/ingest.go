package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/step"
)

// ErrStored is returned by Ingest when the blob is there, perhaps because
// another process fetched it while this one waited.
var ErrStored = errors.New("blob is stored already")

// ErrDigest says that content is not what its digest promises.
var ErrDigest = errors.New("content does not match its digest")

// Ingest is a blob on its way into the store. One process at a time works on
// a digest; what it wrote is kept when it gives up, and the next goes on from
// there. Readers may follow while it is written.
type Ingest struct {
	s      *Store
	digest digest.Digest
	size   int64 // expected, -1 when unknown
	lock   *flock.Lock
	f      *os.File
	hash   hash.Hash

	mu     sync.Mutex // guards what follows
	change chan struct{}
	offset int64
	state  error // nil: being written; io.EOF: verified; else why it ended
	closed bool
}

func (s *Store) partialPath(d digest.Digest) string {
	return s.path("blobs", "partial", encoded(d))
}

// Ingest waits for the right to write a blob, under ctx. It returns ErrStored
// when there is nothing to do. size is -1 when it is not known. The caller
// holds a lease that names d.
func (s *Store) Ingest(ctx context.Context, d digest.Digest, size int64) (*Ingest, error) {
	if err := CheckDigest(d); err != nil {
		return nil, err
	}
	if err := s.Init(); err != nil {
		return nil, err
	}
	if _, ok := s.HasBlob(d); ok {
		return nil, ErrStored
	}
	path := s.partialPath(d)
	lock, err := flock.Acquire(ctx, path+".lock", flock.Exclusive)
	if err != nil {
		return nil, s.lockTrouble(ctx, err)
	}
	in := &Ingest{s: s, digest: d, size: size, lock: lock, hash: sha256.New(), change: make(chan struct{})}
	if _, ok := s.HasBlob(d); ok {
		in.unlock()
		return nil, ErrStored
	}
	if in.f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		in.unlock()
		return nil, s.trouble(err)
	}
	if err := in.resume(ctx); err != nil {
		in.Close()
		return nil, err
	}
	return in, nil
}

// resume takes over what an earlier process left.
func (in *Ingest) resume(ctx context.Context) error {
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := in.f.Read(buf)
		in.hash.Write(buf[:n])
		in.offset += int64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return in.s.trouble(err)
		}
	}
	if in.size >= 0 && in.offset > in.size {
		return in.Restart()
	}
	return nil
}

// Offset is how many bytes are there.
func (in *Ingest) Offset() int64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.offset
}

// Restart throws away what was written. No reader may be open.
func (in *Ingest) Restart() error {
	if err := in.f.Truncate(0); err != nil {
		return in.s.trouble(err)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.hash.Reset()
	in.offset = 0
	return nil
}

// Write appends. More than the expected size is ErrDigest.
func (in *Ingest) Write(p []byte) (int, error) {
	if in.size >= 0 && in.offset+int64(len(p)) > in.size {
		return 0, fmt.Errorf("%s: more than the expected %d bytes: %w", in.digest, in.size, ErrDigest)
	}
	n, err := in.f.WriteAt(p, in.offset)
	in.hash.Write(p[:n])
	in.mu.Lock()
	in.offset += int64(n)
	in.wake()
	in.mu.Unlock()
	if err != nil {
		return n, in.s.trouble(err)
	}
	return n, nil
}

// wake is called with mu held.
func (in *Ingest) wake() {
	close(in.change)
	in.change = make(chan struct{})
}

// Commit verifies size and digest and makes the blob part of the store. After
// ErrDigest the caller may Restart and write again.
func (in *Ingest) Commit() error {
	if in.size >= 0 && in.offset != in.size {
		return fmt.Errorf("%s: %d bytes, want %d: %w", in.digest, in.offset, in.size, io.ErrUnexpectedEOF)
	}
	if got := fromSum(in.hash.Sum(nil)); got != in.digest {
		return fmt.Errorf("%s: got content %s: %w", in.digest, got, ErrDigest)
	}
	// Readers may finish: the content is right, whatever becomes of the file.
	in.end(io.EOF)
	return in.s.publishBlob(in.f, in.s.partialPath(in.digest), in.digest)
}

// publishBlob syncs f, which is at path, and gives it its name in the store.
func (s *Store) publishBlob(f *os.File, path string, d digest.Digest) error {
	step.At("blob.written")
	if err := f.Sync(); err != nil {
		return s.trouble(err)
	}
	if err := f.Close(); err != nil {
		return s.trouble(err)
	}
	step.At("blob.synced")
	to := s.blobPath(d)
	if err := os.Rename(path, to); err != nil {
		return s.trouble(err)
	}
	step.At("blob.renamed")
	return s.trouble(atomicfile.SyncDir(filepath.Dir(to)))
}

func (in *Ingest) end(state error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.state == nil {
		in.state = state
		in.wake()
	}
}

// Fail ends all readers with err. What was written stays for the next attempt.
func (in *Ingest) Fail(err error) { in.end(err) }

// Close gives up the right to write. Without a Commit before it, what was
// written is kept for whoever goes on. It is idempotent.
func (in *Ingest) Close() error {
	in.end(errors.New("the download was given up"))
	in.mu.Lock()
	closed := in.closed
	in.closed = true
	in.mu.Unlock()
	if closed {
		return nil
	}
	in.f.Close()
	if in.Offset() == 0 {
		os.Remove(in.s.partialPath(in.digest))
	}
	return in.unlock()
}

// unlock removes the lock file before it lets go, so that none stays behind;
// flock's check of the inode makes that safe.
func (in *Ingest) unlock() error {
	path := in.s.partialPath(in.digest) + ".lock"
	os.Remove(path)
	return in.lock.Release()
}
