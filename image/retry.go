package image

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/amphora-go/amphora/internal/store"
)

// maxAttempts in a row without a new byte: Docker's max-download-attempts.
const maxAttempts = 5

// errStalled is why a download that gets no bytes is begun anew.
var errStalled = errors.New("the connection stalled")

// temporary says whether the same request may succeed soon.
func temporary(err error) bool {
	var status *transport.Error
	var dns *net.DNSError
	var network net.Error
	var limit *limitError
	switch {
	case errors.As(err, &limit):
		return limit.wait <= patience
	case errors.Is(err, errStalled):
		return true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, errPlainHTTP), errors.Is(err, store.ErrDigest):
		return false
	case errors.As(err, &status):
		return status.Temporary() || status.StatusCode >= 500 || status.StatusCode == http.StatusTooManyRequests
	case errors.As(err, &dns):
		return dns.IsTemporary || dns.IsTimeout
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return true
	case errors.Is(err, syscall.ECONNREFUSED):
		return false // nobody is there: another source may be
	case errors.As(err, &network):
		return network.Timeout()
	}
	return false
}

// backOff waits before attempt n (1, 2, ...): 0.2 s doubling to 5 s, with
// jitter so that many pullers do not come back at once.
// What a registry asked for in cause is waited for.
func backOff(ctx context.Context, n int, cause error) error {
	d := min(200*time.Millisecond<<(n-1), 5*time.Second)
	d = d/2 + rand.N(d/2)
	var limit *limitError
	if errors.As(cause, &limit) {
		d = max(d, min(limit.wait, patience))
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// persist repeats f while it fails temporarily.
func persist(ctx context.Context, f func() error) error {
	for n := 1; ; n++ {
		err := f()
		if err == nil || ctx.Err() != nil || n == maxAttempts || !temporary(err) {
			return err
		}
		if err := backOff(ctx, n, err); err != nil {
			return err
		}
	}
}
