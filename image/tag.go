package image

import (
	"context"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// Tag gives the image source one more name, durably. A name that another image
// has is taken from it; that image stays, without a name if it had no other.
func (s *Store) Tag(ctx context.Context, source, target string) error {
	return fault.New("image tag", target, s.tag(ctx, source, target))
}

func (s *Store) tag(ctx context.Context, source, target string) error {
	ref, err := parseRef(target)
	if err != nil {
		return err
	}
	if ref.Digest != "" {
		return fault.Invalid("a name with a digest cannot be given, it is what it is; leave %q away", "@"+ref.Digest)
	}
	l, err := s.s.Lease(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	n, err := s.find(ctx, source)
	if err != nil {
		return fault.New("image get", source, err)
	}
	// Leased before it is read again: a removal of the source meanwhile leaves
	// the blobs alone.
	img, err := s.s.Image(n.Manifest)
	if err != nil {
		return err
	}
	if err := l.AddImage(ctx, img); err != nil {
		return err
	}
	if err := l.Add(ctx, n.Target); err != nil {
		return err
	}
	if _, err = s.s.Image(n.Manifest); err != nil {
		return err
	}
	if _, ok := s.s.HasBlob(n.Target); !ok {
		return fault.NotExist("image %s was removed meanwhile", source)
	}
	named := *n
	named.Name, named.Pulled = ref.String(), false
	return s.s.UpdateNames(ctx, func(tx *store.NamesTx) error { return tx.Give(ctx, "tag", named) })
}
