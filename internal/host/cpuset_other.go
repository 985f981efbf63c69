//go:build !linux

package host

// Online tells nothing off Linux.
func Online() (cpus, nodes string) { return "", "" }
