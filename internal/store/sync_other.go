//go:build !linux

package store

import "errors"

// Layers are unpacked on Linux only.
func syncTree(string) error { return errors.ErrUnsupported }

func freeSpace(string) (int64, error) { return 0, errors.ErrUnsupported }
