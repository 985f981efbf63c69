//go:build !linux

package testenv

import "testing"

// Root is called by tests that need root on Linux: here they skip.
func Root(t testing.TB) {
	t.Helper()
	t.Skip("needs Linux: containers run nowhere else")
}
