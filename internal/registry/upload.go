package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/store"
)

// beginUpload begins an upload, takes a whole blob at once, or mounts one of
// another repository.
func (q *request) beginUpload() error {
	query := q.r.URL.Query()
	if d := digest.Digest(query.Get("mount")); d != "" {
		if store.CheckDigest(d) != nil {
			return errDigest
		}
		if ok, err := q.mount(d, query.Get("from"), query.Has("from")); err != nil || ok {
			return err
		}
	}
	d := digest.Digest(query.Get("digest"))
	if d != "" && store.CheckDigest(d) != nil {
		return errDigest
	}
	if err := q.room(); err != nil {
		return err
	}
	u, err := q.store.NewUpload(q.ctx, q.name)
	if err != nil {
		return err
	}
	if d != "" {
		// Nobody knows the upload's name: what does not succeed is over.
		defer u.Cancel()
		if err := q.receive(u); err != nil {
			return err
		}
		return q.commit(u, d)
	}
	if err := u.Close(); err != nil {
		return err
	}
	return q.progress(u.ID(), 0, http.StatusAccepted)
}

// room drops idle uploads and sees that there are not too many.
func (q *request) room() error {
	n, err := q.store.Uploads(q.opts.UploadIdle)
	if err == nil && n >= q.opts.MaxUploads {
		return errTooMany
	}
	return err
}

// progress says how far an upload is.
func (q *request) progress(id string, size int64, status int) error {
	h := q.w.Header()
	h.Set("Location", "/v2/"+q.repo+"/blobs/uploads/"+id)
	h.Set("Docker-Upload-UUID", id)
	h.Set("Range", fmt.Sprintf("0-%d", max(0, size-1)))
	h.Set("Content-Length", "0")
	if status == http.StatusNoContent {
		h.Del("Content-Length")
	}
	q.w.WriteHeader(status)
	return nil
}

func (q *request) uploadStatus(id string) error {
	size, err := q.store.UploadSize(q.name, id)
	if err != nil {
		return uploadError(err)
	}
	return q.progress(id, size, http.StatusNoContent)
}

func uploadError(err error) error {
	if errors.Is(err, fs.ErrNotExist) && !store.IsTrouble(err) {
		return errNoUpload
	}
	return err
}

// busyTime is how long a request waits for another one that has the upload:
// one whose client is gone learns of it soon.
const busyTime = 5 * time.Second

func (q *request) open(id string) (*store.Upload, error) {
	ctx, cancel := context.WithTimeout(q.ctx, busyTime)
	defer cancel()
	u, err := q.store.OpenUpload(ctx, q.name, id)
	return u, uploadError(err)
}

// patchUpload appends a chunk.
func (q *request) patchUpload(id string) error {
	u, err := q.open(id)
	if err != nil {
		return err
	}
	defer u.Close()
	if err := q.receive(u); err != nil {
		return q.outOfRange(u, err)
	}
	if err := u.Close(); err != nil {
		return err
	}
	return q.progress(id, u.Size(), http.StatusAccepted)
}

// outOfRange tells the client where to go on.
func (q *request) outOfRange(u *store.Upload, err error) error {
	if err == error(errRange) {
		q.progressHeader(u)
	}
	return err
}

func (q *request) progressHeader(u *store.Upload) {
	h := q.w.Header()
	h.Set("Location", "/v2/"+q.repo+"/blobs/uploads/"+u.ID())
	h.Set("Docker-Upload-UUID", u.ID())
	h.Set("Range", fmt.Sprintf("0-%d", max(0, u.Size()-1)))
}

// endUpload appends what the request still brings, and makes it a blob.
func (q *request) endUpload(id string) error {
	d := digest.Digest(q.r.URL.Query().Get("digest"))
	if store.CheckDigest(d) != nil {
		return errDigest
	}
	u, err := q.open(id)
	if err != nil {
		return err
	}
	defer u.Close()
	if err := q.receive(u); err != nil {
		return q.outOfRange(u, err)
	}
	return q.commit(u, d)
}

func (q *request) commit(u *store.Upload, d digest.Digest) error {
	if err := u.Commit(q.ctx, d); err != nil {
		return err
	}
	return q.created(d)
}

func (q *request) created(d digest.Digest) error {
	h := q.w.Header()
	h.Set("Location", "/v2/"+q.repo+"/blobs/"+string(d))
	h.Set("Docker-Content-Digest", string(d))
	h.Set("Content-Length", "0")
	q.w.WriteHeader(http.StatusCreated)
	return nil
}

func (q *request) cancelUpload(id string) error {
	u, err := q.open(id)
	if err != nil {
		return err
	}
	if err := u.Cancel(); err != nil {
		return err
	}
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}

// receive appends the body of the request. What arrived of a chunk that broke
// off stays: the client asks how much that is.
func (q *request) receive(u *store.Upload) error {
	want, err := q.announced(u)
	if err != nil {
		return err
	}
	limit := q.opts.MaxBlob - u.Size()
	if q.opts.MaxBlob > 0 && (limit < 0 || want > limit) {
		return errTooLarge
	}
	if want > 0 {
		if err := q.store.CheckSpace(want); err != nil {
			return err
		}
	}
	body := io.Reader(q.r.Body)
	if want >= 0 {
		body = io.LimitReader(body, want)
	} else if q.opts.MaxBlob > 0 {
		body = io.LimitReader(body, limit+1)
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{u}, body, make([]byte, 1<<20))
	switch {
	case store.IsTrouble(err):
		return err
	case err != nil:
		return errUpload.because("the content broke off; ask how much is here and go on")
	case want >= 0 && n < want:
		return errSize
	case want < 0 && q.opts.MaxBlob > 0 && n > limit:
		return errors.Join(errTooLarge, u.Cancel())
	}
	return nil
}

// announced is how long the body is to be, -1 when the client does not say.
func (q *request) announced(u *store.Upload) (int64, error) {
	span := q.r.Header.Get("Content-Range")
	if span == "" {
		return q.r.ContentLength, nil
	}
	span, _, _ = strings.Cut(strings.TrimSpace(strings.TrimPrefix(span, "bytes")), "/")
	first, last, ok := strings.Cut(strings.TrimPrefix(span, "="), "-")
	from, err1 := strconv.ParseUint(first, 10, 62)
	to, err2 := strconv.ParseUint(last, 10, 62)
	if !ok || err1 != nil || err2 != nil {
		return 0, errUpload.because("Content-Range is malformed: want first-last")
	}
	if int64(from) != u.Size() || to < from {
		return 0, errRange
	}
	want := int64(to-from) + 1
	if q.r.ContentLength >= 0 && q.r.ContentLength != want {
		return 0, errSize
	}
	return want, nil
}

// mount makes a blob of another repository one of this repository. If it
// cannot, the client uploads it.
func (q *request) mount(d digest.Digest, from string, named bool) (bool, error) {
	ok, err := q.mountable(d, from, named)
	if err != nil || !ok {
		return false, err
	}
	if err := q.store.Hold(q.ctx, q.name, d); err != nil {
		return false, err
	}
	if _, ok := q.store.HasBlob(d); !ok {
		return false, q.store.Unhold(q.name, d)
	}
	return true, q.created(d)
}

// mountable reports whether the client may read the blob in the repository
// from, or in any.
func (q *request) mountable(d digest.Digest, from string, named bool) (bool, error) {
	if named && from != "" {
		if len(from) > maxName || !repoRE().MatchString(from) {
			return false, nil
		}
		name, err := q.opts.Images.Name(from)
		if err != nil || !q.may(from, Pull) {
			return false, nil
		}
		return q.has(name, d)
	}
	s, err := q.names(q.ctx)
	if err != nil {
		return false, err
	}
	scopes, err := q.store.Holders(d)
	if err != nil {
		return false, err
	}
	for name := range s.names {
		scopes = append(scopes, name)
	}
	for _, name := range scopes {
		repo, ok := q.opts.Images.Repository(name)
		if !ok || !q.may(repo, Pull) {
			continue
		}
		if ok, err := q.has(name, d); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

func (q *request) has(name string, d digest.Digest) (bool, error) {
	if q.store.Held(name, d) {
		return true, nil
	}
	v, err := q.view(q.ctx, name)
	return err == nil && v.blobs[d] != nil, err
}
