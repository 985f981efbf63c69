//go:build !linux

package tree

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/fault"
)

func digestOf(context.Context, string) (digest.Digest, error) {
	return "", fault.Unsupported("layers exist on Linux only")
}

func selected(context.Context, []string, string) (digest.Digest, error) {
	return "", fault.Unsupported("layers exist on Linux only")
}
