package image

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// VerifyOptions tune Verify.
type VerifyOptions struct {
	// Images limits it to images of these names or ids; default all.
	Images []string
	// Quick looks whether everything is there, with the size that it should
	// have, and reads only manifests and configs.
	Quick bool
}

// The kinds of problems.
const (
	ProblemBlob  = "blob"  // missing, or its content is not what its digest says
	ProblemLayer = "layer" // an unpacked tree that is missing or not what its blob says
	ProblemName  = "name"  // the file of a name cannot be read
	ProblemImage = "image" // manifest or config make no sense
)

// Problem is something that Verify found.
type Problem struct {
	Kind   string
	ID     string   // digest, chain id, or file name below images/
	Images []string // that have it: names, or ids of those without
	// Missing says that it is not there at all.
	Missing bool
	Text    string // what is wrong

	blob ocispec.Descriptor
	img  *store.Image // of a layer
	at   int
	file string
}

// Verified is what Verify looked at and found.
type Verified struct {
	Images, Blobs, Layers int
	Bytes                 int64 // of blobs that were read
	Problems              []Problem
	// Unproven are unpacked layers, by chain id, that nothing is left to
	// compare with.
	Unproven []string
	// Extra are files below blobs/ and layers/ that nothing needs: a Prune
	// takes them.
	Extra []string
}

// Verify compares what the store has with what its digests promise: every blob
// that an image needs is read, and the tree of every layer is compared, file by
// file with owner, mode, times and attributes, with its blob unpacked anew, or
// with the list that was made when its blob was dropped. It changes nothing.
// What was dropped by choice, platforms of an index that were never pulled, and
// layers that were never unpacked are no problem. It takes as long as pulling
// all images from a disk.
func (s *Store) Verify(ctx context.Context, opts *VerifyOptions) (*Verified, error) {
	if opts == nil {
		opts = &VerifyOptions{}
	}
	v := &verifier{s: s, quick: opts.Quick, out: &Verified{}, blobs: map[digest.Digest]int{}, layers: map[string]int{}}
	err := v.run(ctx, opts.Images)
	return v.out, fault.New("image verify", "", err)
}

// verifier is one Verify.
type verifier struct {
	s      *Store
	quick  bool
	out    *Verified
	blobs  map[digest.Digest]int // seen; to the index of their problem and one, 0 for none
	layers map[string]int
}

func (v *verifier) run(ctx context.Context, images []string) error {
	bad, err := v.s.s.DamagedNames()
	if err != nil {
		return err
	}
	for file, why := range bad {
		v.problem(Problem{Kind: ProblemName, ID: file, Text: why.Error(), file: file}, "")
	}
	names, err := v.s.s.SoundNames(ctx)
	if err != nil {
		return err
	}
	if images != nil {
		if names, err = v.chosen(ctx, names, images); err != nil {
			return err
		}
	}
	seen := map[digest.Digest]bool{}
	for _, n := range names {
		if err := v.name(ctx, n); err != nil {
			return err
		}
		if !seen[n.ImageID] {
			seen[n.ImageID] = true
			v.out.Images++
		}
	}
	if images == nil && len(bad) == 0 {
		if err := v.extra(ctx); err != nil {
			return err
		}
	}
	slices.Sort(v.out.Unproven)
	slices.Sort(v.out.Extra)
	return nil
}

func (v *verifier) chosen(ctx context.Context, all []*store.Name, images []string) ([]*store.Name, error) {
	ids := map[digest.Digest]bool{}
	for _, name := range images {
		n, err := v.s.find(ctx, name)
		if err != nil {
			return nil, fault.New("image", name, err)
		}
		ids[n.ImageID] = true
	}
	return slices.DeleteFunc(all, func(n *store.Name) bool { return !ids[n.ImageID] }), nil
}

// name verifies what one name stands for, under a lease, so that a removal
// meanwhile does not look like a loss.
func (v *verifier) name(ctx context.Context, n *store.Name) error {
	l, err := v.s.s.Lease(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.Add(ctx, n.Target, n.Manifest, n.ImageID); err != nil {
		return err
	}
	if gone, err := v.s.gone(ctx, n); err != nil || gone {
		return err
	}
	label := familiar(n.Name)
	if n.Name == "" {
		label = shortID(string(n.ImageID))
	}
	if n.Target != n.Manifest {
		v.blob(ctx, ocispec.Descriptor{MediaType: n.MediaType, Digest: n.Target, Size: -1}, label)
	}
	// Of an index those platforms matter that are here.
	blobs, _ := v.s.s.Reached(n.Target)
	blobs[n.Manifest] = true
	if err := l.Add(ctx, known(blobs)...); err != nil {
		return err
	}
	delete(blobs, n.Manifest)
	if n.Artifact != "" {
		delete(blobs, n.Target)
		v.blob(ctx, ocispec.Descriptor{MediaType: n.MediaType, Digest: n.Target, Size: -1}, label)
	} else if err := v.manifest(ctx, l, n.Manifest, true, label); err != nil {
		return err
	}
	// Manifests before what they list: they say what that should be.
	for _, manifests := range []bool{true, false} {
		for d := range blobs {
			if _, ok := v.s.s.HasBlob(d); !ok || v.isManifest(d) != manifests {
				continue
			}
			if err := v.manifest(ctx, l, d, false, label); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

func (v *verifier) isManifest(d digest.Digest) bool {
	if size, _ := v.s.s.HasBlob(d); size > store.MaxMetadata {
		return false
	}
	data, err := v.s.s.ReadBlob(d)
	return err == nil && looksLikeManifest(data)
}

func known(set map[digest.Digest]bool) []digest.Digest {
	var out []digest.Digest
	for d := range set {
		if store.CheckDigest(d) == nil {
			out = append(out, d)
		}
	}
	return out
}

// gone reports whether a name has changed.
func (s *Store) gone(ctx context.Context, n *store.Name) (bool, error) {
	names, err := s.s.SoundNames(ctx)
	return !slices.ContainsFunc(names, func(have *store.Name) bool {
		return have.Name == n.Name && have.ImageID == n.ImageID && have.Target == n.Target
	}), err
}

// manifest verifies a blob of an image and, if it is a manifest, all that it
// lists. Of those that were not chosen what is missing was not pulled.
func (v *verifier) manifest(ctx context.Context, l *store.Lease, d digest.Digest, chosen bool, label string) error {
	size, _ := v.s.s.HasBlob(d)
	if size > store.MaxMetadata {
		v.blob(ctx, ocispec.Descriptor{Digest: d, Size: -1}, label)
		return ctx.Err()
	}
	data, err := v.s.s.ReadBlob(d)
	if err != nil || !chosen && !looksLikeManifest(data) {
		media := ""
		if chosen {
			media = ocispec.MediaTypeImageManifest
		}
		v.blob(ctx, ocispec.Descriptor{MediaType: media, Digest: d, Size: -1}, label)
		return ctx.Err()
	}
	v.blob(ctx, ocispec.Descriptor{MediaType: store.MediaType(data), Digest: d, Size: int64(len(data))}, label)
	img, config, err := store.ParseManifest(data)
	if err != nil {
		if chosen {
			v.problem(Problem{Kind: ProblemImage, ID: string(d), Text: err.Error()}, label)
		}
		return nil
	}
	if _, ok := v.s.s.HasBlob(img.ID); !ok && !chosen {
		return nil
	}
	if v.blob(ctx, *config, label) {
		data, err := v.s.s.ReadBlob(img.ID)
		if err == nil {
			err = img.SetConfig(data)
		}
		if err != nil {
			v.problem(Problem{Kind: ProblemImage, ID: string(img.ID), Text: err.Error()}, label)
			return nil
		}
		if err := l.AddImage(ctx, img); err != nil {
			return err
		}
	}
	return v.content(ctx, l, img, chosen, label)
}

func looksLikeManifest(data []byte) bool {
	_, _, err := store.ParseManifest(data)
	return err == nil
}

// content verifies an image's layers: blobs, then trees from the lowest up.
func (v *verifier) content(ctx context.Context, l *store.Lease, img *store.Image, chosen bool, label string) error {
	for i, layer := range img.Layers {
		if err := ctx.Err(); err != nil {
			return err
		}
		_, here := v.s.s.HasBlob(layer.Blob.Digest)
		dropped := !here && layer.Chain != "" && v.s.s.Dropped(layer.Chain)
		if here || chosen && !dropped && !foreign(layer.Blob) {
			if !v.blob(ctx, layer.Blob, label) {
				continue // nothing to compare the tree with
			}
		}
		if layer.Chain != "" {
			v.layer(ctx, l, img, i, label)
		}
	}
	return ctx.Err()
}

// blob verifies a blob, once; true if it is good.
func (v *verifier) blob(ctx context.Context, d ocispec.Descriptor, label string) bool {
	if at, ok := v.blobs[d.Digest]; ok {
		v.also(at, label)
		return at == 0
	}
	v.blobs[d.Digest] = 0
	size, ok := v.s.s.HasBlob(d.Digest)
	var err error
	switch {
	case !ok:
		err = fmt.Errorf("%s: %w", d.Digest, store.ErrMissing)
	case d.Size >= 0 && size != d.Size:
		err = fmt.Errorf("blob %s has %d bytes, want %d: %w", d.Digest, size, d.Size, store.ErrDigest)
	case !v.quick || isDocument(d.MediaType):
		v.out.Bytes += size
		err = v.s.s.CheckBlob(ctx, d.Digest)
	}
	v.out.Blobs++
	if err == nil || ctx.Err() != nil {
		return err == nil
	}
	v.blobs[d.Digest] = v.problem(Problem{Kind: ProblemBlob, ID: string(d.Digest), Missing: !ok, Text: err.Error(), blob: d}, label)
	return false
}

func (v *verifier) layer(ctx context.Context, l *store.Lease, img *store.Image, i int, label string) {
	chain := img.Layers[i].Chain
	if at, ok := v.layers[chain]; ok {
		v.also(at, label)
		return
	}
	v.layers[chain] = 0
	_, there, err := v.s.s.Layer(chain)
	if err == nil && !there || store.CanUnpack() != nil {
		return // not unpacked: the blob is what counts
	}
	v.out.Layers++
	if err == nil && !v.quick {
		err = v.s.s.CheckLayer(ctx, l, img, i)
	}
	switch {
	case err == nil || ctx.Err() != nil:
	case errors.Is(err, store.ErrUnproven):
		v.out.Unproven = append(v.out.Unproven, chain)
	default:
		v.layers[chain] = v.problem(Problem{Kind: ProblemLayer, ID: chain, Text: err.Error(), img: img, at: i}, label)
	}
}

// problem notes one and returns its number, from 1.
func (v *verifier) problem(p Problem, label string) int {
	v.out.Problems = append(v.out.Problems, p)
	v.also(len(v.out.Problems), label)
	return len(v.out.Problems)
}

func (v *verifier) also(at int, label string) {
	if at == 0 || label == "" {
		return
	}
	p := &v.out.Problems[at-1]
	if !slices.Contains(p.Images, label) {
		p.Images = append(p.Images, label)
	}
}

// extra lists what nothing needs.
func (v *verifier) extra(ctx context.Context) error {
	h, err := v.s.s.Holding(ctx, nil)
	if err != nil {
		return err
	}
	for d := range h.Blobs {
		if !h.NeededBlobs[d] {
			v.out.Extra = append(v.out.Extra, "blobs/sha256/"+d.Encoded())
		}
	}
	for c := range h.Layers {
		if !h.NeededLayers[c] {
			v.out.Extra = append(v.out.Extra, "layers/"+c)
		}
	}
	return nil
}
