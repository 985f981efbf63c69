//go:build !linux

package testenv

import "testing"

func run(m *testing.M) int { return m.Run() }

func mountsBelow(string) []string { return nil }
