package run

import (
	"runtime"

	"github.com/amphora-go/amphora/internal/fault"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// runnable says what is missing to execute programs of a platform.
func runnable(p ocispec.Platform) error {
	if p.OS != "" && p.OS != "linux" {
		return fault.Unsupported("commands for %s cannot be executed: containers run Linux programs", p.OS)
	}
	if p.Architecture == "" || p.Architecture == runtime.GOARCH {
		return nil
	}
	return emulated(p)
}
