package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/step"
)

const (
	// piece is the size of the parts that a blob is sent in once a connection
	// broke in its middle: what a registry stored of a request that was cut is
	// lost with many, so progress needs requests that end. The cloud stores
	// behind registries want at least 5 MiB.
	piece = 16 << 20
	// wholeBlob is what is sent in the request that completes the upload:
	// configs and small layers go in two requests instead of three.
	wholeBlob = 1 << 20
	// commitTimeout is how long a registry may take to answer once it has all
	// bytes: it may have to copy and to hash them.
	commitTimeout = 15 * time.Minute
	// endTimeout is how long a cancelled upload may take to leave nothing behind.
	endTimeout = 2 * time.Second
)

// upload is one blob on its way to a registry.
type upload struct {
	dst   *source
	blob  *content
	from  []string // repositories of the same registry that have the blob
	stall time.Duration
	tell  func(sent int64)

	location string // of the session, "" before it begins
	sent     int64  // that the registry has, as far as it said
	furthest int64  // that sent ever was
	piece    int64  // 0: all in one request
	refused  bool   // the registry takes no pieces
	mounted  string // repository from which it was mounted
}

// hasBlob asks whether the repository has a blob.
func (s *source) hasBlob(ctx context.Context, d digest.Digest) (bool, error) {
	resp, err := s.do(ctx, http.MethodHead, s.url("blobs", string(d)), nil, http.StatusOK)
	if err == nil {
		resp.Body.Close()
		return true, nil
	}
	if statusOf(err) == http.StatusNotFound {
		return false, nil
	}
	return false, err
}

// statusOf is the HTTP status that an error is about, 0 if none.
func statusOf(err error) int {
	var e *transport.Error
	if errors.As(err, &e) {
		return e.StatusCode
	}
	return 0
}

// run sends the blob. It repeats what may succeed the next time, and goes on
// where a broken connection ended.
func (u *upload) run(ctx context.Context) (existed bool, err error) {
	for n := 1; ; n++ {
		var has bool
		if has, err = u.dst.hasBlob(ctx, u.blob.Digest); has {
			existed = u.sent == 0
			u.cancel(ctx) // somebody else was faster; a completed one is gone already
			return existed, nil
		}
		if err == nil {
			if err = u.attempt(ctx); err == nil {
				return false, nil
			}
		}
		// Sending the same bytes again after the session was lost is no progress.
		if u.sent > u.furthest {
			n, u.furthest = 1, u.sent
		}
		if ctx.Err() != nil || n >= maxAttempts || !u.again(ctx, err) {
			u.cancel(ctx)
			return false, err
		}
		u.dst.log.Info("image: upload interrupted, going on", "blob", u.blob.Digest, "at", u.sent, "err", err)
		if err := backOff(ctx, n, err); err != nil {
			u.cancel(ctx)
			return false, err
		}
	}
}

// again says whether an attempt that failed so may be followed by another.
func (u *upload) again(ctx context.Context, err error) bool {
	var broken *brokenError
	switch status := statusOf(err); {
	case u.piece == 0 && wrongDigest(err):
		return false // all of it arrived in order: it would be as wrong again
	case u.location != "" && (status == http.StatusNotFound || status == http.StatusRequestedRangeNotSatisfiable ||
		status == http.StatusBadRequest && u.sent > 0):
		u.cancel(ctx) // the registry lost the session, or knows another end of it
		return true
	case u.piece > 0 && (status == http.StatusMethodNotAllowed || status == http.StatusNotImplemented):
		u.cancel(ctx)
		u.piece, u.refused = 0, true
		return true
	case status != 0:
		return temporary(err)
	}
	return errors.As(err, &broken) || temporary(err)
}

// wrongDigest says whether the registry found that a blob is not what its
// digest says.
func wrongDigest(err error) bool {
	var e *transport.Error
	return errors.As(err, &e) && has(e, transport.DigestInvalidErrorCode)
}

// brokenError is a connection that ended while a blob was sent over it.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

// attempt begins the session, or finds out how far it is, and sends the rest.
func (u *upload) attempt(ctx context.Context) error {
	if u.location != "" {
		u.resume(ctx)
	}
	if u.location == "" {
		done, err := u.begin(ctx)
		if err != nil || done {
			return err
		}
	}
	f, err := u.blob.open(ctx)
	if err != nil {
		return err
	}
	defer f.Close()
	if u.sent == 0 && u.blob.Size <= wholeBlob {
		return u.finish(ctx, f, u.blob.Size)
	}
	for u.sent < u.blob.Size {
		n := u.blob.Size - u.sent
		if u.piece > 0 {
			n = min(n, u.piece)
		}
		if err := u.patch(ctx, f, n); err != nil {
			return err
		}
		step.At("push.bytes")
	}
	return u.finish(ctx, f, 0)
}

// begin opens a session, or finds the blob in another repository. A session
// whose opening was cut short would stay at the registry, unknown to us: so the
// request may end after ctx, and the caller ends what it opened.
func (u *upload) begin(ctx context.Context) (done bool, err error) {
	at := u.dst.url("blobs", "uploads/")
	ctx, stop := outlive(ctx, endTimeout)
	defer stop()
	for len(u.from) > 0 {
		from := u.from[0]
		u.from = u.from[1:]
		q := url.Values{"mount": {string(u.blob.Digest)}, "from": {from}}
		resp, err := u.dst.do(ctx, http.MethodPost, at+"?"+q.Encode(), nil, http.StatusCreated, http.StatusAccepted)
		if err != nil {
			if s := statusOf(err); s >= 400 && s < 500 && s != http.StatusTooManyRequests {
				continue // not allowed to read there, or it knows no mounts
			}
			return false, err
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusCreated {
			u.mounted = from
			return true, nil
		}
		return false, u.follow(resp) // refused, but a session was opened
	}
	resp, err := u.dst.do(ctx, http.MethodPost, at, nil, http.StatusAccepted)
	if err != nil {
		return false, err
	}
	resp.Body.Close()
	return false, u.follow(resp)
}

// follow takes over where the registry wants the next request to go.
func (u *upload) follow(resp *http.Response) error {
	to, err := resp.Location()
	if err != nil {
		if u.location != "" {
			return nil // some name it only once
		}
		return u.dst.explain(fmt.Errorf("no Location for the upload of %s: %w", u.blob.Digest, withoutQuery(err)))
	}
	u.location = to.String()
	if least, err := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64); err == nil && u.piece > 0 {
		u.piece = max(u.piece, least)
	}
	return nil
}

// resume asks how much the registry has. A session that it does not know any
// more is forgotten; the next one goes in pieces.
func (u *upload) resume(ctx context.Context) {
	if u.piece == 0 && !u.refused {
		u.piece = piece
	}
	resp, err := u.dst.do(ctx, http.MethodGet, u.location, nil, http.StatusNoContent, http.StatusOK)
	if err != nil {
		u.cancel(ctx)
		return
	}
	resp.Body.Close()
	n, ok := rangeEnd(resp.Header.Get("Range"))
	if !ok || n > u.blob.Size || u.follow(resp) != nil {
		u.cancel(ctx)
		return
	}
	u.sent = n
}

// rangeEnd is how many bytes "0-99" are. Registries write "0-0" for none.
func rangeEnd(s string) (int64, bool) {
	from, to, ok := strings.Cut(strings.TrimPrefix(s, "bytes="), "-")
	n, err := strconv.ParseInt(to, 10, 64)
	if !ok || from != "0" || err != nil || n < 0 || n == 1<<63-1 {
		return 0, false
	}
	if n == 0 {
		return 0, true // or one byte, which costs nothing to send again
	}
	return n + 1, true
}

// patch sends the next n bytes.
func (u *upload) patch(ctx context.Context, f io.ReaderAt, n int64) error {
	header := http.Header{"Content-Type": {"application/octet-stream"}}
	if u.sent > 0 || n < u.blob.Size {
		header.Set("Content-Range", fmt.Sprintf("%d-%d", u.sent, u.sent+n-1))
	}
	resp, err := u.send(ctx, http.MethodPatch, u.location, header, f, n, http.StatusAccepted, http.StatusNoContent, http.StatusCreated)
	if err != nil {
		return err
	}
	resp.Body.Close()
	u.sent += n
	// It may have taken less than was sent.
	if end, ok := rangeEnd(resp.Header.Get("Range")); ok && end > 0 && end < u.sent {
		u.sent = end
	}
	return u.follow(resp)
}

// finish sends the last n bytes and has the registry check the whole.
func (u *upload) finish(ctx context.Context, f io.ReaderAt, n int64) error {
	at, err := url.Parse(u.location)
	if err != nil {
		return err
	}
	q := at.Query()
	q.Set("digest", string(u.blob.Digest))
	at.RawQuery = q.Encode()
	header := http.Header{"Content-Type": {"application/octet-stream"}}
	resp, err := u.send(ctx, http.MethodPut, at.String(), header, f, n, http.StatusCreated, http.StatusNoContent, http.StatusOK)
	if err != nil {
		return err
	}
	resp.Body.Close()
	step.At("push.blob")
	return nil
}

// send is one request with n bytes of f from the offset u.sent.
func (u *upload) send(ctx context.Context, method, to string, header http.Header, f io.ReaderAt, n int64, codes ...int) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(watched(ctx))
	defer cancel(nil)
	client, err := u.dst.connect(ctx)
	if err != nil {
		return nil, err
	}
	stall := time.AfterFunc(u.stall, func() { cancel(errStalled) })
	defer stall.Stop()
	from := u.sent
	body := func() (io.ReadCloser, error) {
		// The transport may still read from an earlier body: no shared offset.
		return io.NopCloser(&sending{r: io.NewSectionReader(f, from, n), u: u, stall: stall, at: from, left: n}), nil
	}
	req, err := http.NewRequestWithContext(ctx, method, to, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header = header
	if n > 0 {
		req.ContentLength, req.GetBody = n, body
		if req.Body, err = body(); err != nil {
			return nil, err
		}
	} else {
		stall.Reset(commitTimeout)
	}
	resp, err := client.Do(req)
	if err == nil {
		if err = transport.CheckError(resp, codes...); err == nil {
			// The answers have no body to speak of, and ctx ends with this call.
			io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
		}
		resp.Body.Close()
		if err != nil {
			return nil, u.dst.explain(err)
		}
		return resp, nil
	}
	err = stalled(ctx, u.dst.explain(withoutQuery(err)))
	if refusedByUs(err) || ctx.Err() != nil && !errors.Is(err, errStalled) {
		return nil, err
	}
	return nil, &brokenError{err}
}

// refusedByUs tells failures that come again from those of a connection.
func refusedByUs(err error) bool {
	var status *transport.Error
	return errors.Is(err, errPlainHTTP) || errors.As(err, &status)
}

// withoutQuery takes from the text of an error what may be as good as a
// password: the signed parameters of an upload's address.
func withoutQuery(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		e.URL, _, _ = strings.Cut(e.URL, "?")
	}
	return err
}

// sending is a body that tells how far it is.
type sending struct {
	r        io.Reader
	u        *upload
	stall    *time.Timer
	at, left int64
}

func (s *sending) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.at, s.left = s.at+int64(n), s.left-int64(n)
	if s.left == 0 {
		s.stall.Reset(commitTimeout)
	} else {
		s.stall.Reset(s.u.stall)
	}
	if n > 0 {
		s.u.tell(s.at)
	}
	return n, err
}

// cancel forgets the session and tells the registry that it is over, so that
// nothing half-made stays there. It outlives ctx, by little.
func (u *upload) cancel(ctx context.Context) {
	at := u.location
	u.location, u.sent = "", 0
	if at == "" {
		return
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer stop()
	if resp, err := u.dst.do(ctx, http.MethodDelete, at, nil, http.StatusNoContent, http.StatusAccepted, http.StatusOK); err == nil {
		resp.Body.Close()
	}
}

// outlive is ctx with d more time after its end.
func outlive(ctx context.Context, d time.Duration) (context.Context, func()) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(d, cancel) })
	return longer, func() { stop(); cancel() }
}
