package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/step"
)

// ErrBusy says that another request works on an upload.
var ErrBusy = errors.New("another request is writing to this upload")

// Upload is content that arrives in pieces, by several requests to any of the
// processes of a Root, under a name of its own until its digest is known. One
// request at a time has it open. Not safe for concurrent use.
type Upload struct {
	s     *Store
	id    string
	lock  *flock.Lock
	f     *os.File
	hash  hash.Hash
	size  int64
	state uploadState
	gone  bool
}

// uploadState is kept beside the content. Without the hash, or with one of
// fewer bytes than are there, the content is read once more.
type uploadState struct {
	Version int    `json:"version"`
	Scope   string `json:"scope"`
	Hash    []byte `json:"hash,omitempty"` // sha256 of the first Hashed bytes
	Hashed  int64  `json:"hashed,omitempty"`
}

const uploadVersion = 1

func (s *Store) uploadPath(id string, elem ...string) string {
	return s.path(append([]string{"uploads", id}, elem...)...)
}

func (s *Store) uploadLock(id string) string { return s.path("uploads", id+".lock") }

// NewUpload begins an upload for a scope, see Hold.
func (s *Store) NewUpload(ctx context.Context, scope string) (*Upload, error) {
	if err := s.Init(); err != nil {
		return nil, err
	}
	u := &Upload{s: s, id: randomID(), hash: sha256.New(), state: uploadState{Version: uploadVersion, Scope: scope}}
	// Acquire, not Try: whoever sweeps may have it before it has a state.
	lock, err := flock.Acquire(ctx, s.uploadLock(u.id), flock.Exclusive)
	if err != nil {
		return nil, s.lockTrouble(ctx, err)
	}
	u.lock = lock
	step.At("upload.locked")
	err = os.Mkdir(s.uploadPath(u.id), 0o700)
	if err == nil {
		err = atomicfile.WriteJSON(s.uploadPath(u.id, "state.json"), u.state, 0o600, false)
	}
	if err == nil {
		u.f, err = os.OpenFile(s.uploadPath(u.id, "data"), os.O_RDWR|os.O_CREATE, 0o600)
	}
	if err != nil {
		return nil, s.trouble(errors.Join(err, u.Cancel()))
	}
	step.At("upload.made")
	return u, nil
}

// UploadSize says how much of an upload is there, also while it is written.
// The error Is fs.ErrNotExist when the scope has no such upload.
func (s *Store) UploadSize(scope, id string) (int64, error) {
	if _, err := s.readUpload(scope, id); err != nil {
		return 0, err
	}
	info, err := os.Stat(s.uploadPath(id, "data"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, noUpload(id)
	}
	if err != nil {
		return 0, s.trouble(err)
	}
	return info.Size(), nil
}

func noUpload(id string) error { return fault.NotExist("no such upload: %s", id) }

func (s *Store) readUpload(scope, id string) (*uploadState, error) {
	if len(id) != 2*idBytes || strings.Trim(id, "0123456789abcdef") != "" {
		return nil, noUpload("(malformed)")
	}
	data, err := os.ReadFile(s.uploadPath(id, "state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, noUpload(id)
	}
	if err != nil {
		return nil, s.trouble(err)
	}
	var st uploadState
	if err := json.Unmarshal(data, &st); err != nil || st.Version > uploadVersion || st.Scope != scope {
		return nil, noUpload(id) // damaged, of a newer program, or somebody else's
	}
	return &st, nil
}

// OpenUpload goes on with an upload. It waits for another request that has it
// as long as ctx lets it: then the error Is ErrBusy.
func (s *Store) OpenUpload(ctx context.Context, scope, id string) (*Upload, error) {
	if _, err := s.readUpload(scope, id); err != nil {
		return nil, err
	}
	lock, err := flock.Acquire(ctx, s.uploadLock(id), flock.Exclusive)
	if err != nil && ctx.Err() != nil {
		return nil, ErrBusy
	}
	if err != nil {
		return nil, s.trouble(err)
	}
	u := &Upload{s: s, id: id, lock: lock, hash: sha256.New()}
	st, err := s.readUpload(scope, id)
	if err != nil { // ended while we waited: the lock's file is ours alone
		os.Remove(s.uploadLock(id))
		lock.Release()
		return nil, err
	}
	u.state = *st
	if err := u.resume(ctx); err != nil {
		u.Close()
		return nil, err
	}
	return u, nil
}

// resume makes the hash cover all that is there.
func (u *Upload) resume(ctx context.Context) (err error) {
	if u.f, err = os.OpenFile(u.s.uploadPath(u.id, "data"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return u.s.trouble(err)
	}
	info, err := u.f.Stat()
	if err != nil {
		return u.s.trouble(err)
	}
	if h := u.state.Hash; h != nil && u.state.Hashed <= info.Size() && u.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(h) == nil {
		u.size = u.state.Hashed
	} else {
		u.hash = sha256.New()
	}
	if _, err := u.f.Seek(u.size, io.SeekStart); err != nil {
		return u.s.trouble(err)
	}
	n, err := io.Copy(u.hash, &contextReader{ctx, u.f})
	u.size += n
	return u.s.trouble(err)
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// ID names the upload to OpenUpload.
func (u *Upload) ID() string { return u.id }

// Size is how many bytes are there.
func (u *Upload) Size() int64 { return u.size }

// Write appends.
func (u *Upload) Write(p []byte) (int, error) {
	n, err := u.f.WriteAt(p, u.size)
	u.hash.Write(p[:n])
	u.size += int64(n)
	step.At("upload.bytes")
	return n, u.s.trouble(err)
}

// Commit makes a blob of the content, held for the scope, and ends the upload.
// The error Is ErrDigest when the content has another digest; then it is gone,
// too: nothing can make it right.
func (u *Upload) Commit(ctx context.Context, d digest.Digest) error {
	if err := CheckDigest(d); err != nil {
		return err
	}
	if got := fromSum(u.hash.Sum(nil)); got != d {
		return errors.Join(fmt.Errorf("%s: got content %s: %w", d, got, ErrDigest), u.Cancel())
	}
	if err := u.s.Hold(ctx, u.state.Scope, d); err != nil {
		return err
	}
	if _, ok := u.s.HasBlob(d); !ok {
		if err := u.s.publishBlob(u.f, u.s.uploadPath(u.id, "data"), d); err != nil {
			return err
		}
	}
	step.At("upload.published")
	return u.Cancel()
}

// Cancel ends the upload and drops its content.
func (u *Upload) Cancel() error {
	if u.gone {
		return nil
	}
	u.gone = true
	if u.f != nil {
		u.f.Close()
	}
	// The state goes first: whoever waits for the lock sees that it is over.
	err := os.Remove(u.s.uploadPath(u.id, "state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	step.At("upload.ended")
	err = errors.Join(err, removeTree(u.s.uploadPath(u.id)))
	os.Remove(u.s.uploadLock(u.id))
	err = errors.Join(err, u.lock.Release())
	os.Remove(u.s.uploadLock(u.id)) // Windows: not before it is closed
	return u.s.trouble(err)
}

// Close keeps what is there for the next request. It is idempotent.
func (u *Upload) Close() error {
	if u == nil || u.gone {
		return nil
	}
	u.gone = true
	var err error
	if u.f != nil {
		err = u.f.Close()
	}
	if sum, e := u.hash.(encoding.BinaryMarshaler).MarshalBinary(); e == nil && !bytes.Equal(sum, u.state.Hash) {
		u.state.Hash, u.state.Hashed = sum, u.size
		// It only saves reading the content again.
		err = errors.Join(err, atomicfile.WriteJSON(u.s.uploadPath(u.id, "state.json"), u.state, 0o600, false))
	}
	step.At("upload.closed")
	return u.s.trouble(errors.Join(err, u.lock.Release()))
}

// Uploads counts the open uploads, after it dropped those that nobody wrote to
// for age.
func (s *Store) Uploads(age time.Duration) (int, error) {
	if err := s.Init(); err != nil {
		return 0, err
	}
	sw := &sweep{s: s, id: randomID()}
	n, err := sw.uploads(age)
	if err != nil {
		return 0, s.trouble(err)
	}
	if sw.taken > 0 {
		s.emptyTrash(context.Background())
	}
	return n, nil
}

// uploads takes those that are idle, and counts the others.
func (sw *sweep) uploads(age time.Duration) (open int, err error) {
	entries, err := os.ReadDir(sw.s.path("uploads"))
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		id, isLock := strings.CutSuffix(e.Name(), ".lock")
		if !isLock {
			continue // every upload has its lock's file before and after it
		}
		if !sw.s.idleUpload(id, age) {
			open++
			continue
		}
		lock, err := flock.Try(sw.s.uploadLock(id), flock.Exclusive)
		if errors.Is(err, flock.ErrHeld) {
			open++
			continue
		}
		if err != nil {
			return 0, err
		}
		if sw.s.idleUpload(id, age) {
			err = sw.take(sw.s.uploadPath(id))
			os.Remove(sw.s.uploadLock(id))
		}
		if err = errors.Join(err, lock.Release()); err != nil {
			return 0, err
		}
	}
	return open, nil
}

// idleUpload judges by the last write to the content. Without a state it ended,
// or its lock, which is asked afterwards, says that it is beginning.
func (s *Store) idleUpload(id string, age time.Duration) bool {
	if _, err := os.Stat(s.uploadPath(id, "state.json")); err != nil {
		return true
	}
	info, err := os.Stat(s.uploadPath(id, "data"))
	return err != nil || time.Since(info.ModTime()) >= age
}
