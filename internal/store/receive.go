package store

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/fault"
)

// ReceiveLayer makes a layer with a random name of its archive, compressed or
// not, which it reads to its end and which must have that digest when it is
// plain. The lease keeps the layer. The archive is one that this program made of
// a layer: it has an entry for every directory that it passes through.
func (s *Store) ReceiveLayer(ctx context.Context, l *Lease, r io.Reader, diff digest.Digest) (string, error) {
	if err := CanUnpack(); err != nil {
		return "", err
	}
	st, err := s.stage(ctx, l, r, nil)
	if err != nil {
		return "", err
	}
	defer st.remove()
	if st.Diff != diff {
		return "", fault.Invalid("the layer's content is %s, not %s: it is damaged or forged", st.Diff, diff)
	}
	name, _, err := s.AdoptLayer(ctx, l, st.dir)
	return name, err
}
