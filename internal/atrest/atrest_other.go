//go:build !linux

package atrest

import (
	"context"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
)

// Open needs Linux.
func Open(context.Context, *record.Root, *record.Container, *Options) (*Root, error) {
	return nil, fault.Unsupported("opening a container's root needs Linux")
}

// Layers are those of a container at rest, read-only.
func Layers(*record.Root, *record.Container) []string { return nil }
