//go:build !linux

package run

import (
	"github.com/amphora-go/amphora/internal/fault"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func emulated(p ocispec.Platform) error {
	return fault.Unsupported("commands for linux/%s cannot be executed here", p.Architecture)
}
