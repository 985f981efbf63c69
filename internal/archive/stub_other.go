//go:build !linux

package archive

import (
	"context"
	"io"
	"runtime"

	"github.com/amphora-go/amphora/internal/fault"
)

func unsupported(what string) error {
	return fault.Unsupported("%s needs Linux; this is %s", what, runtime.GOOS)
}

// Apply needs Linux.
func Apply(context.Context, string, io.Reader, *ApplyOptions) (*Applied, error) {
	return nil, unsupported("unpacking a layer")
}

// Settle needs Linux.
func Settle(context.Context, string, []string, *Applied) error {
	return unsupported("unpacking a layer")
}

// ReadInRoot needs Linux.
func ReadInRoot(string, string, int64) ([]byte, error) {
	return nil, unsupported("reading inside an image")
}
