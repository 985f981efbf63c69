//go:build !linux

package seccomp

import "github.com/amphora-go/amphora/internal/fault"

// Install gives a program to the kernel; only Linux has seccomp.
func Install([]byte, uint) error {
	return fault.Unsupported("seccomp is a feature of the Linux kernel")
}
