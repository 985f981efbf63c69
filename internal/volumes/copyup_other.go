//go:build !linux

package volumes

import (
	"context"

	"github.com/amphora-go/amphora/internal/fault"
)

// CopyUp fills an empty volume from a container's root file system. It needs
// Linux, as containers do.
func CopyUp(ctx context.Context, srcDir, dataDir string) error {
	return fault.Unsupported("filling a volume from an image needs Linux")
}
