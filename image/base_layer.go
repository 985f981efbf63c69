package image

import (
	"context"
	"io"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// Diffs is how many layers the image has.
func (b *Base) Diffs() int { return len(b.img.Layers) }

// Layer opens the blob of layer i, counted from the lowest, as the image has
// it: compressed or not. It is fetched if it is not here, alone, and kept by
// the lease. The error Is store.ErrMissing if it is nowhere.
func (b *Base) Layer(ctx context.Context, i int) (io.ReadCloser, error) {
	d := b.img.Layers[i].Blob
	if err := b.p.lease.Add(ctx, d.Digest); err != nil {
		return nil, err
	}
	if _, ok := b.s.s.HasBlob(d.Digest); ok {
		return b.s.s.OpenBlob(d.Digest)
	}
	if b.never || len(b.p.sources) == 0 {
		return nil, store.ErrMissing
	}
	f, err := b.p.openBlob(ctx, d)
	return f, fault.New("image pull", b.Ref(), err)
}
