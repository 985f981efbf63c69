//go:build !linux

package shim

import (
	"context"

	"github.com/amphora-go/amphora/internal/fault"
)

// Process launches supervisors; on this system there are none.
type Process struct{ Helper string }

// Launch needs Linux.
func (l *Process) Launch(context.Context, *LaunchOptions) (*Started, error) {
	return nil, fault.Unsupported("containers run on Linux only; on this system use a program on Linux through the Docker Engine API")
}
