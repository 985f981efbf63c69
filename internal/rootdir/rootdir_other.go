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

// Path names the root.
func (d *Dir) Path() string { return "" }

// Resolve needs Linux.
func (d *Dir) Resolve(string, bool) (string, error) { return "", errors.ErrUnsupported }

// Lstat needs Linux.
func (d *Dir) Lstat(string) (*Stat, error) { return nil, errors.ErrUnsupported }

// IsReadOnly is never true off Linux.
func IsReadOnly(error) bool { return false }

// PathForOthers is Path for other processes.
func (d *Dir) PathForOthers() string { return "" }
