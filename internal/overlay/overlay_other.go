//go:build !linux

package overlay

import (
	"os"

	"github.com/amphora-go/amphora/internal/fault"
)

var errLinux = fault.Unsupported("overlay mounts need Linux")

// Open needs Linux.
func Open(Layers) (*os.File, error) { return nil, errLinux }

// Mount needs Linux.
func Mount(string, Layers) error { return errLinux }
