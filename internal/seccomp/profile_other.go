//go:build !linux

package seccomp

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/amphora-go/amphora/internal/fault"
)

// Default is Docker's default profile; only Linux has seccomp.
func Default(*specs.Spec) (*specs.LinuxSeccomp, error) {
	return nil, fault.Unsupported("seccomp profiles depend on the Linux kernel that runs the container")
}

// Parse resolves a profile in Docker's JSON format; only Linux has seccomp.
func Parse([]byte, *specs.Spec) (*specs.LinuxSeccomp, error) {
	return nil, fault.Unsupported("seccomp profiles depend on the Linux kernel that runs the container")
}
