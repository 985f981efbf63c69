//go:build !linux

package firewalld

import "context"

// Trust does nothing: firewalld is Linux's.
func (b Bus) Trust(context.Context, ...string) error { return nil }

// Distrust does nothing.
func (b Bus) Distrust(context.Context, ...string) error { return nil }

// Status finds none.
func (b Bus) Status(context.Context, ...string) (Status, error) { return Status{}, nil }
