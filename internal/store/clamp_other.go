//go:build !linux

package store

import (
	"context"
	"time"
)

func newerThan(context.Context, string, time.Time) (bool, error) { return false, CanUnpack() }
