//go:build !linux

// Package pidfd makes descriptors of processes.
package pidfd

import (
	"errors"
	"os"
)

// Self needs Linux.
func Self() (*os.File, error) { return nil, errors.ErrUnsupported }
