package build

import (
	"context"
	"io"

	"github.com/amphora-go/amphora/internal/archive"
	"github.com/amphora-go/amphora/internal/fault"
)

// unpackTar puts a context that came as an archive into a directory. Nothing in
// it can leave the directory, and names like those of whiteouts mean nothing.
func unpackTar(ctx context.Context, dir string, r io.Reader) error {
	plain, _, err := archive.Decompress(r)
	if err != nil {
		return fault.Invalid("Request.Context.Tar: %w", err)
	}
	defer plain.Close()
	if _, err := archive.Apply(ctx, dir, plain, &archive.ApplyOptions{Whiteouts: archive.WhiteoutLiteral}); err != nil {
		return fault.Invalid("Request.Context.Tar: %w", err)
	}
	return nil
}
