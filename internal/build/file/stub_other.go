//go:build !linux

package file

import (
	"context"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
)

// Do needs Linux.
func Do(context.Context, *op.File, *Options) error {
	return fault.Unsupported("changing the files of an image needs Linux")
}
