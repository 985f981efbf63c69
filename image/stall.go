package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// watchedKey marks requests whose sender looks after stalls by itself.
type watchedKey struct{}

func watched(ctx context.Context) context.Context {
	return context.WithValue(ctx, watchedKey{}, true)
}

// watch sends a request and breaks it off when nothing moves for the time that
// connections may be still: manifests, tokens and questions as well as blobs.
func (w *wire) watch(t http.RoundTripper, req *http.Request) (*http.Response, error) {
	if w.stall <= 0 || req.Context().Value(watchedKey{}) != nil {
		return t.RoundTrip(req)
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	timer := time.AfterFunc(w.stall, func() { cancel(errStalled) })
	resp, err := t.RoundTrip(req.WithContext(ctx))
	if err != nil {
		timer.Stop()
		err = stalled(ctx, err)
		cancel(nil)
		return nil, err
	}
	timer.Reset(w.stall)
	resp.Body = &watchedBody{resp.Body, ctx, cancel, timer, w.stall}
	return resp, nil
}

// watchedBody puts the end off with each byte.
type watchedBody struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.timer.Reset(b.stall)
	}
	if err != nil && err != io.EOF {
		err = stalled(b.ctx, err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.timer.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

func stalled(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errStalled) && !errors.Is(err, errStalled) {
		return fmt.Errorf("%w: %w", errStalled, err)
	}
	return err
}
