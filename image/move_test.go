package image

import (
	"bytes"
	"testing"

	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/testenv"
)

// Registry, store, archive, another store, another registry, its store: the
// digest is the same at both ends, and every byte is proven on the way.
func TestImageMovesWithItsDigest(t *testing.T) {
	from, to := testenv.NewRegistry(t, nil), testenv.NewRegistry(t, nil)
	built := from.Push(t, "team/app", "v1", testenv.LayeredImage(t, "app:v1"))
	for _, drop := range []bool{false, true} {
		one, two, three := openTest(t, nil), openTest(t, nil), openTest(t, nil)
		configure(t, one, record.Images{DropBlobs: drop})
		configure(t, two, record.Images{DropBlobs: drop})
		first := pullOne(t, one, from.Host+"/team/app:v1", nil)
		var archive bytes.Buffer
		if err := one.Save(t.Context(), &archive, []string{from.Host + "/team/app:v1"}, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := two.Load(t.Context(), &archive, nil); err != nil {
			t.Fatal(err)
		}
		target := to.Host + "/other/name:v2"
		if err := two.Tag(t.Context(), from.Host+"/team/app:v1", target); err != nil {
			t.Fatal(err)
		}
		done, err := two.Push(t.Context(), target, nil)
		if err != nil {
			t.Fatal(err)
		}
		last := pullOne(t, three, target, nil)
		if d := string(built.Manifest); first.Manifest() != d || done[0].Digest != d || last.Manifest() != d || last.ID() != first.ID() {
			t.Errorf("blobs dropped %v: %s, %s, %s, %s", drop, d, first.Manifest(), done[0].Digest, last.Manifest())
		}
		for _, s := range []*Store{one, two, three} {
			if v, err := s.Verify(t.Context(), nil); err != nil || len(v.Problems) > 0 {
				t.Errorf("%+v, %v", v, err)
			}
		}
	}
}
