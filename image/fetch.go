package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/store"
)

// download is one blob on its way, which the unpacking of its layer follows.
type download struct {
	p    *puller
	blob ocispec.Descriptor
	// tell gets how many bytes are there.
	tell func(int64)
	// verify is called when all bytes are there.
	verify func()

	once sync.Once
	all  []*source

	next     int // source to ask, and why those before it failed: of run alone
	failures []error

	mu     sync.Mutex // guards what follows
	change chan struct{}
	in     *store.Ingest // nil while there is none to follow
	stored bool
	err    error
}

func (p *puller) download(blob ocispec.Descriptor) *download {
	return &download{p: p, blob: blob, change: make(chan struct{}), tell: func(int64) {}, verify: func() {}}
}

// sources are where the blob may be had, for a foreign layer also the
// addresses that its descriptor gives.
func (d *download) sources() []*source {
	d.once.Do(func() {
		d.all = d.p.sources
		if foreign(d.blob) {
			d.all = slices.Concat(d.all, d.p.s.foreignSources(d.blob, d.p.stall))
		}
	})
	return d.all
}

func (d *download) set(in *store.Ingest, stored bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.in, d.stored, d.err = in, stored, err
	close(d.change)
	d.change = make(chan struct{})
}

// open gives the content as soon as it begins to arrive.
func (d *download) open(ctx context.Context) (io.ReadCloser, error) {
	for {
		d.mu.Lock()
		in, stored, err, change := d.in, d.stored, d.err, d.change
		d.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case stored:
			return d.p.s.s.OpenBlob(d.blob.Digest)
		case in != nil:
			return in.Follow(ctx)
		}
		select {
		case <-change:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// run fetches the blob unless it is there. It reports whether it was.
func (d *download) run(ctx context.Context) (existed bool, err error) {
	defer func() {
		for _, src := range d.all {
			if src.fixed != "" {
				src.wire.close()
			}
		}
		d.set(nil, err == nil, err)
	}()
	for {
		in, err := d.p.s.s.Ingest(ctx, d.blob.Digest, d.blob.Size)
		if errors.Is(err, store.ErrStored) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		d.set(in, false, nil)
		err = d.attempt(ctx, in)
		if err != nil {
			d.set(nil, false, nil) // nobody begins to follow what is given up
			// Whoever follows begins anew with the next attempt, or learns
			// from open that there is none.
			in.Fail(fmt.Errorf("%w: %w", store.ErrRestart, err))
		}
		again := false
		if errors.Is(err, store.ErrDigest) {
			again = d.next < len(d.sources())
			err = errors.Join(err, in.Restart())
		}
		in.Close()
		if !again {
			return false, err
		}
	}
}

// attempt goes through the sources until one completes the blob. After
// ErrDigest the content must be thrown away; d.next says who is asked then.
func (d *download) attempt(ctx context.Context, in *store.Ingest) error {
	for d.next < len(d.sources()) {
		src, began := d.sources()[d.next], in.Offset()
		err := d.fill(ctx, src, in)
		if err == nil {
			step.At("pull.fetched")
			d.verify()
			err = in.Commit()
		}
		if err == nil || ctx.Err() != nil || store.IsTrouble(err) {
			return err
		}
		// When it only went on with what others wrote, it may be right itself.
		guilty := !errors.Is(err, store.ErrDigest) || began == 0
		if guilty {
			d.p.s.health.note(src, err)
			d.failures = addFailure(d.failures, src, fmt.Errorf("from %s: %w", src.host, err))
			d.next++
		}
		if errors.Is(err, store.ErrDigest) {
			return joinFailures(append(d.failures, err))
		}
	}
	return joinFailures(d.failures)
}

// fill gets bytes until the blob is complete, going on where a broken
// connection ended.
func (d *download) fill(ctx context.Context, src *source, in *store.Ingest) error {
	all := d.sources()
	last := src == all[len(all)-1]
	for n := 1; ; n++ {
		before := in.Offset()
		if d.blob.Size >= 0 && before == d.blob.Size {
			return nil
		}
		err := d.get(ctx, src, in)
		if err == nil {
			return nil
		}
		if in.Offset() > before {
			n = 1 // it moves
		}
		mayRetry := temporary(err) || last && errors.Is(err, syscall.ECONNREFUSED)
		if ctx.Err() != nil || n >= maxAttempts || !mayRetry {
			return err
		}
		d.p.s.log.Info("image: download interrupted, going on", "blob", d.blob.Digest, "at", in.Offset(), "err", err)
		if err := backOff(ctx, n, err); err != nil {
			return err
		}
	}
}

// get is one request.
func (d *download) get(ctx context.Context, src *source, in *store.Ingest) error {
	ctx, cancel := context.WithCancelCause(watched(ctx))
	defer cancel(nil)
	stall := time.AfterFunc(d.p.stall, func() { cancel(errStalled) })
	defer stall.Stop()
	at := in.Offset()
	header := http.Header{"Accept-Encoding": {"identity"}} // the digest is of the bytes as stored
	if at > 0 {
		end := ""
		if d.blob.Size > 0 { // some registries insist on it
			end = strconv.FormatInt(d.blob.Size-1, 10)
		}
		header.Set("Range", fmt.Sprintf("bytes=%d-%s", at, end))
	}
	resp, err := src.do(ctx, http.MethodGet, src.url("blobs", string(d.blob.Digest)), header, http.StatusOK, http.StatusPartialContent)
	if err != nil {
		if status := new(transport.Error); at > 0 && errors.As(err, &status) && status.StatusCode == http.StatusRequestedRangeNotSatisfiable {
			return fmt.Errorf("%w: %w", store.ErrDigest, err) // what lies here is not the beginning of it
		}
		return stalled(ctx, err)
	}
	defer resp.Body.Close()
	if err := skipTo(resp, at); err != nil {
		return stalled(ctx, src.explain(err))
	}
	buf := make([]byte, 256<<10)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			stall.Reset(d.p.stall)
			if _, err := in.Write(buf[:n]); err != nil {
				return err
			}
			d.tell(in.Offset())
			step.At("pull.bytes")
		}
		if err == io.EOF {
			if d.blob.Size >= 0 && in.Offset() < d.blob.Size {
				return src.explain(fmt.Errorf("blob %s ended after %d of %d bytes: %w", d.blob.Digest, in.Offset(), d.blob.Size, io.ErrUnexpectedEOF))
			}
			return nil
		}
		if err != nil {
			return stalled(ctx, src.explain(err))
		}
	}
}

// skipTo makes the body begin at the offset asked for, also when the registry
// knows no ranges.
func skipTo(resp *http.Response, at int64) error {
	from := int64(0)
	if resp.StatusCode == http.StatusPartialContent {
		span, _, _ := strings.Cut(strings.TrimPrefix(resp.Header.Get("Content-Range"), "bytes "), "-")
		n, err := strconv.ParseInt(span, 10, 64)
		if err != nil || n > at {
			return fmt.Errorf("asked for bytes from %d, got Content-Range %q", at, resp.Header.Get("Content-Range"))
		}
		from = n
	}
	if _, err := io.CopyN(io.Discard, resp.Body, at-from); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return nil
}

// addFailure keeps the registry's own word the last: it decides what kind of
// error it is.
func addFailure(failures []error, src *source, err error) []error {
	if len(failures) > 0 && !src.origin && src.fixed == "" {
		if o := (*originError)(nil); errors.As(failures[len(failures)-1], &o) {
			return slices.Insert(failures, len(failures)-1, err)
		}
	}
	if src.origin {
		err = &originError{err}
	}
	return append(failures, err)
}

// originError is what the registry itself said.
type originError struct{ error }

func (e *originError) Unwrap() error { return e.error }

func joinFailures(failures []error) error {
	switch len(failures) {
	case 0:
		return errors.New("no source to ask")
	case 1:
		return failures[0]
	}
	// The registry's own word, the last, decides what kind of error it is.
	last := failures[len(failures)-1]
	var others []string
	for _, f := range failures[:len(failures)-1] {
		if f.Error() != last.Error() {
			others = append(others, f.Error())
		}
	}
	if others == nil {
		return last
	}
	return fmt.Errorf("%w (before that: %s)", last, strings.Join(others, "; "))
}
