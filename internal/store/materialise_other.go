//go:build !linux

package store

import "context"

// Materialise needs Linux, as the layers do.
func (s *Store) Materialise(context.Context, []string, string) error { return CanUnpack() }
