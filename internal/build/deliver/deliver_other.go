//go:build !linux

package deliver

import (
	"context"
	"io"

	"github.com/amphora-go/amphora/internal/fault"
)

// Tar needs Linux.
func Tar(context.Context, io.Writer, []Tree) error {
	return fault.Unsupported("building images needs Linux")
}

// Directory needs Linux.
func Directory(context.Context, string, []Tree) error {
	return fault.Unsupported("building images needs Linux")
}
