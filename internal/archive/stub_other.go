//go:build !linux

package archive

import (
	"context"
	"io"
	"runtime"

	"github.com/amphora-go/amphora/internal/fault"
)

func needsLinux(what string) error {
	return fault.Unsupported("%s needs Linux; this is %s", what, runtime.GOOS)
}

// Apply needs Linux.
func Apply(context.Context, string, io.Reader, *ApplyOptions) (*Applied, error) {
	return nil, needsLinux("unpacking a layer")
}

// Settle needs Linux.
func Settle(context.Context, string, []string, *Applied) error {
	return needsLinux("unpacking a layer")
}

// ReadInRoot needs Linux.
func ReadInRoot(string, string, int64) ([]byte, error) {
	return nil, needsLinux("reading inside an image")
}

// Create needs Linux.
func Create(context.Context, io.Writer, string, *CreateOptions) error {
	return needsLinux("archiving a container's files")
}

// Changes needs Linux.
func Changes(context.Context, string, []string, *ChangesOptions) ([]Change, error) {
	return nil, needsLinux("comparing a container with its image")
}
