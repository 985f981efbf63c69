//go:build !linux

package solve

import (
	"context"

	"github.com/amphora-go/amphora/internal/fault"
)

func settle(context.Context, string, []string) error {
	return fault.Unsupported("building images needs Linux")
}

func deletes(string) (string, error) { return "", nil }
