//go:build !linux

package host

import (
	"runtime"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Look tells what can be told off Linux.
func Look() Facts { return Facts{CPUs: runtime.NumCPU()} }

// Device needs Linux.
func Device(string, string) ([]specs.LinuxDevice, error) {
	return nil, fault.Unsupported("devices of containers need Linux")
}

// NoOverlay is true where there are no mounts of ours.
func NoOverlay() bool { return true }
