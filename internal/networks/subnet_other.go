//go:build !linux

package networks

import (
	"context"
	"net/netip"

	"github.com/amphora-go/amphora/internal/fault"
)

func lockSubnets(context.Context) (func(), error) {
	return nil, fault.Unsupported("networks of containers need Linux")
}

func routes() ([]netip.Prefix, error) { return nil, nil }

func defaultMTU() int { return 1500 }
