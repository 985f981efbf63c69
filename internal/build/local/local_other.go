//go:build !linux

package local

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

func errUnsupported() error { return fault.Unsupported("build contexts are read on Linux only") }

func (d *Dir) scan(context.Context, *Filter) (*Manifest, error) { return nil, errUnsupported() }

// Manifest is what a scan saw; there are none off Linux.
type Manifest struct{}

// Digest is the identity of the filtered tree.
func (m *Manifest) Digest() digest.Digest { return "" }

// Select needs Linux.
func (m *Manifest) Select(*op.Copy) (digest.Digest, bool) { return "", false }

// At needs Linux.
func (m *Manifest) At(string) (digest.Digest, bool) { return "", false }

// View needs Linux.
func (m *Manifest) View(*store.Lease) ([]string, error) { return nil, errUnsupported() }

// Rooted needs Linux.
func (m *Manifest) Rooted(*store.Lease) ([]string, error) { return nil, errUnsupported() }

// Unchanged needs Linux.
func (m *Manifest) Unchanged(context.Context) (bool, error) { return false, errUnsupported() }
