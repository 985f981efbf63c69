package image

import (
	"context"
	"encoding/json"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/store"
)

// serving answers what a registry asks about images.
type serving struct {
	s    *Store
	host string // of the names served; "" for all
}

// Name is what a repository is called in the store.
func (v *serving) Name(repository string) (string, error) {
	if v.host == "" {
		ref, err := parseRef(repository)
		return ref.Name(), err
	}
	ref := Ref{Registry: v.host, Repository: repository}
	err := ref.complete()
	return ref.Name(), err
}

// Repository is the reverse of Name; names that no path can say are not served.
func (v *serving) Repository(name string) (string, bool) {
	ref, err := parseRef(name)
	if err != nil || v.host != "" && ref.Registry != v.host {
		return "", false
	}
	repository := Ref{Registry: ref.Registry, Repository: ref.Repository}.Familiar()
	if v.host != "" && v.host != defaultRegistry {
		repository = ref.Repository
	}
	again, err := v.Name(repository)
	return repository, err == nil && again == name && pathOnly(repository)
}

// pathOnly is false for names with a port or capital letters in their host.
func pathOnly(repository string) bool {
	r := Ref{Registry: "a.b", Repository: repository}
	return r.complete() == nil
}

// Describe says which image a name stands for on this machine, or that it is
// an artifact.
func (v *serving) Describe(n *store.Name, content []byte) {
	if img := v.image(content, 0); img != nil {
		if config, err := parseConfig(img.Config); err == nil {
			n.Manifest, n.ImageID, n.Platform = img.Manifest, img.ID, formatPlatform(config.Image.Platform)
			return
		}
	}
	n.Manifest, n.ImageID = n.Target, n.Target
	var m struct {
		ArtifactType string              `json:"artifactType"`
		Config       *ocispec.Descriptor `json:"config"`
	}
	json.Unmarshal(content, &m) // it was parsed before
	switch {
	case m.ArtifactType != "":
		n.Artifact = m.ArtifactType
	case m.Config != nil && m.Config.MediaType != "":
		n.Artifact = m.Config.MediaType
	default:
		n.Artifact = n.MediaType
	}
}

// image finds the image of a document that suits this machine best: of an
// index the one for its platform, else the first that is an image. Nil: none.
func (v *serving) image(content []byte, depth int) *store.Image {
	entries, isIndex, err := store.ParseIndex(content)
	if err != nil || depth > maxNesting+1 {
		return nil
	}
	if !isIndex {
		img, err := v.s.s.Image(digest.FromBytes(content))
		if err != nil {
			return nil
		}
		if _, err := parseConfig(img.Config); err != nil {
			return nil
		}
		return img
	}
	if best, err := choose(entries, hostPlatform()); err == nil {
		entries = append([]ocispec.Descriptor{best}, entries...)
	}
	for _, e := range entries {
		if store.IsAttestation(e) {
			continue
		}
		if data, err := v.s.s.ReadBlob(e.Digest); err == nil {
			if img := v.image(data, depth+1); img != nil {
				return img
			}
		}
	}
	return nil
}

// Remake makes the layers anew that the store has unpacked only, and what
// refers to them if their digests are others.
func (v *serving) Remake(ctx context.Context, l *store.Lease, n *store.Name) (digest.Digest, []digest.Digest, error) {
	g := &gatherer{s: v.s, lease: l, elsewhere: func(context.Context, digest.Digest) bool { return true }}
	out, err := g.gather(ctx, n)
	if err != nil {
		return "", nil, err
	}
	if len(out.documents) == 0 {
		return "", nil, store.ErrMissing
	}
	if out, err = (&converter{s: v.s, lease: l}).run(ctx, out); err != nil {
		return "", nil, err
	}
	var parts []digest.Digest
	for _, c := range out.contents {
		if c.path != "" {
			if err := v.s.s.AdoptBlob(ctx, l, c.path, c.Digest); err != nil {
				return "", nil, err
			}
		}
		parts = append(parts, c.Digest)
	}
	for _, d := range out.documents {
		if _, err := v.s.s.PutBlob(ctx, l, d.data); err != nil {
			return "", nil, err
		}
		parts = append(parts, d.digest)
	}
	return out.top().digest, parts, nil
}
