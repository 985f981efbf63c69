//go:build !linux

package ports

import (
	"context"

	"github.com/amphora-go/amphora/internal/attachment"
	"github.com/amphora-go/amphora/internal/fault"
)

// Held is a set of reserved ports. There is none on this system.
type Held struct{}

// Hold returns an error: containers need Linux.
func Hold(_ context.Context, wants []Want) (*Held, error) {
	if err := check(wants); err != nil {
		return nil, err
	}
	return nil, fault.Unsupported("published ports need Linux")
}

// Bound returns nothing.
func (*Held) Bound() []attachment.Port { return nil }

// Serve does nothing.
func (*Held) Serve(Targets) error { return nil }

// Pause does nothing.
func (*Held) Pause() error { return nil }

// Close does nothing.
func (*Held) Close() error { return nil }
