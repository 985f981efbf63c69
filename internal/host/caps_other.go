//go:build !linux

package host

// Capabilities are a matter of Linux.
func Capabilities() []string { return nil }
