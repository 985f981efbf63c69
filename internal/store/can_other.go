//go:build !linux

package store

import (
	"runtime"

	"github.com/amphora-go/amphora/internal/fault"
)

// CanUnpack reports why layers cannot be unpacked here.
func CanUnpack() error {
	return fault.Unsupported("unpacking layers needs Linux; %s keeps images packed", runtime.GOOS)
}
