package registry

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/store"
)

func (q *request) getBlob(d digest.Digest) error {
	if store.CheckDigest(d) != nil {
		return errDigest
	}
	v, err := q.find(func(v *view) bool { return v.blobs[d] != nil })
	if err != nil {
		return err
	}
	b := v.blobs[d]
	if b == nil && !q.store.Held(q.name, d) {
		return errNoBlob
	}
	if q.r.Method == http.MethodHead && !q.opts.ReadOnly {
		// A client that asks will not send it: it must be there when the
		// manifest comes.
		if err := q.store.Hold(q.ctx, q.name, d); err != nil {
			return err
		}
	}
	f, err := q.store.OpenBlob(d)
	if errors.Is(err, store.ErrMissing) && b != nil {
		return q.missingBlob(b)
	}
	if errors.Is(err, store.ErrMissing) {
		return errNoBlob
	}
	if err != nil {
		return err
	}
	defer f.Close()
	q.blobHeader(d)
	http.ServeContent(q.w, q.r, "", time.Time{}, f)
	return nil
}

func (q *request) blobHeader(d digest.Digest) {
	h := q.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Docker-Content-Digest", string(d))
	h.Set("ETag", `"`+string(d)+`"`)
	h.Set("Cache-Control", "max-age=31536000") // it never changes
}

// missingBlob serves what a manifest lists and the store lacks: from upstream,
// while it arrives, or made anew.
func (q *request) missingBlob(b *heldBlob) error {
	if q.opts.Upstream != nil && b.name.Pulled && !q.down() {
		if q.r.Method == http.MethodHead {
			q.blobHeader(b.Digest)
			q.w.Header().Set("Content-Length", strconv.FormatInt(b.Size, 10))
			q.w.WriteHeader(http.StatusOK)
			return nil
		}
		return q.passOn(b)
	}
	l, err := q.store.Lease(q.ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	if _, _, err := q.opts.Images.Remake(q.ctx, l, b.name); err != nil && !errors.Is(err, store.ErrMissing) {
		return err
	}
	f, err := q.store.OpenBlob(b.Digest)
	if errors.Is(err, store.ErrMissing) {
		return errNoBlob.because("the store has this layer unpacked only, and cannot make the same blob of it again")
	}
	if err != nil {
		return err
	}
	defer f.Close()
	q.blobHeader(b.Digest)
	http.ServeContent(q.w, q.r, "", time.Time{}, f)
	return nil
}

// passOn sends a blob of upstream's while it arrives. A client that asks for a
// part waits until all of it is here.
func (q *request) passOn(b *heldBlob) error {
	in, err := q.opts.Upstream.Blob(q.ctx, q.name, b.Descriptor)
	if err = q.judge(err); err != nil {
		return err
	}
	defer in.Close()
	if q.r.Header.Get("Range") == "" {
		q.blobHeader(b.Digest)
		q.w.Header().Set("Content-Length", strconv.FormatInt(b.Size, 10))
		if err := copyLate(q.w, in); err != nil {
			// Too late for an error of ours: the client sees the end of the
			// connection before that of the content.
			panic(http.ErrAbortHandler)
		}
		return nil
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return q.judge(err)
	}
	in.Close() // then it is in the store
	f, err := q.store.OpenBlob(b.Digest)
	if err != nil {
		return err
	}
	defer f.Close()
	q.blobHeader(b.Digest)
	http.ServeContent(q.w, q.r, "", time.Time{}, f)
	return nil
}

// copyLate copies, and keeps the last piece back until in ended well: that says
// that all of it was right, and a client must not get the whole of what is not.
func copyLate(w io.Writer, in io.Reader) error {
	last, next := make([]byte, 0, 256<<10), make([]byte, 256<<10)
	for {
		n, err := in.Read(next)
		if n > 0 || err == io.EOF {
			if _, err := w.Write(last); err != nil {
				return err
			}
			last, next = next[:n], last[:cap(last)]
		}
		if err == io.EOF {
			_, err := w.Write(last)
			return err
		}
		if err != nil {
			return err
		}
	}
}

// deleteBlob drops a blob that was uploaded and that no manifest lists.
func (q *request) deleteBlob(d digest.Digest) error {
	if store.CheckDigest(d) != nil {
		return errDigest
	}
	v, err := q.view(q.ctx, q.name)
	if err != nil {
		return err
	}
	switch b := v.blobs[d]; {
	case b != nil:
		return errInUse.because("manifest " + string(b.within) + " needs it: delete that first")
	case !q.store.Held(q.name, d):
		return errNoBlob
	}
	if err := q.store.Unhold(q.name, d); err != nil {
		return err
	}
	q.tidy()
	q.w.WriteHeader(http.StatusAccepted)
	return nil
}
