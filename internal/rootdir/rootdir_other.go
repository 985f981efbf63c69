//go:build !linux

// Package rootdir opens files below a directory that is a container's root:
// every link is resolved inside it.
package rootdir

import (
	"errors"
	"os"
)

// Dir is an open root; there are none off Linux.
type Dir struct{ f *os.File }

// New takes over f.
func New(f *os.File) *Dir { return &Dir{f} }

// Open needs Linux.
func (d *Dir) Open(string) (*os.File, error) { return nil, errors.ErrUnsupported }

// Close closes the root.
func (d *Dir) Close() error { return d.f.Close() }
