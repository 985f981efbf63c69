package image

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// SaveOptions tune Save and SaveDir.
type SaveOptions struct {
	// OCI leaves out manifest.json and repositories, which `docker load` wants
	// and an OCI layout does not know. SaveDir always leaves them out.
	OCI bool
	// Platform saves one platform's image alone, such as "linux/arm64";
	// default all that the store has under each name.
	Platform string
	// Compress is "gzip", "zstd" or "keep", the default: layers are saved as
	// the store has them, so that every digest stays. Docker before 23 reads
	// no zstd.
	Compress string
}

// Save writes images to w as one tar: an OCI layout that is an archive of
// `docker save`, too, as Docker has written it since 25 and every older one
// loads it. Layers that several images share stand in it once. The same images
// in the same order give the same bytes. An image given by its id is saved
// without a name.
//
// The error Is fs.ErrNotExist when an image is not there or not for the
// platform. What was written until an error is no complete archive.
func (s *Store) Save(ctx context.Context, w io.Writer, names []string, opts *SaveOptions) error {
	if opts == nil {
		opts = &SaveOptions{}
	}
	bw := bufio.NewWriterSize(w, 256<<10)
	err := s.save(ctx, newTarSink(bw), names, opts)
	if err == nil {
		err = bw.Flush()
	}
	return fault.New("image save", strings.Join(names, " "), err)
}

// SaveDir writes images to a directory as an OCI layout, which it makes. A
// layout that is there keeps its other images; what is in it is not written
// again. It is complete at every moment: index.json is replaced last, at once.
func (s *Store) SaveDir(ctx context.Context, dir string, names []string, opts *SaveOptions) error {
	o := SaveOptions{}
	if opts != nil {
		o = *opts
	}
	o.OCI = true
	sink, err := newDirSink(dir)
	if err == nil {
		defer sink.root.Close()
		err = s.save(ctx, sink, names, &o)
	}
	return fault.New("image save", strings.Join(names, " "), err)
}

// sink is where the files of an archive go.
type sink interface {
	// blob writes a blob, in the order of digests, and fails if its content has
	// another digest. fs.ErrExist: it is there.
	blob(ctx context.Context, d digest.Digest, size int64, r io.Reader) error
	// end writes the files beside the blobs.
	end(ctx context.Context, layout *layout) error
}

// saved is one image of an archive, under all its names.
type saved struct {
	*outgoing
	names []Ref
	image document // the one that Docker's list is about
}

func (s *Store) save(ctx context.Context, to sink, names []string, opts *SaveOptions) error {
	if len(names) == 0 {
		return fault.Invalid("no image was named")
	}
	if err := checkCompress(opts.Compress); err != nil {
		return err
	}
	l, err := s.s.Lease(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	var all []*saved
	for _, name := range names {
		if all, err = s.savedImage(ctx, l, all, name, opts); err != nil {
			return fault.New("image", name, err)
		}
	}
	return writeArchive(ctx, to, all, opts.OCI)
}

// savedImage adds an image, or a name of one that is there.
func (s *Store) savedImage(ctx context.Context, l *store.Lease, all []*saved, name string, opts *SaveOptions) ([]*saved, error) {
	n, err := s.find(ctx, name)
	if err != nil {
		return nil, err
	}
	out, err := (&gatherer{s: s, lease: l, platform: opts.Platform}).gather(ctx, n)
	if err != nil {
		return nil, err
	}
	compress := opts.Compress
	if compress == "" {
		compress = KeepCompression
	}
	v, err := s.converter(ctx, n, l, compress)
	if err != nil {
		return nil, err
	}
	if out, err = v.run(ctx, out); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(have *saved) bool { return have.top().digest == out.top().digest })
	if i < 0 {
		one := &saved{outgoing: out}
		if one.image, err = out.imageOf(n.ImageID); err != nil {
			return nil, err
		}
		all, i = append(all, one), len(all)
	}
	if ref, err := parseRef(n.Name); err == nil && ref.Tag != "" && !slices.Contains(all[i].names, ref) {
		all[i].names = append(all[i].names, ref)
	}
	return all, nil
}

// imageOf is the manifest with a config, or else the first.
func (o *outgoing) imageOf(id digest.Digest) (document, error) {
	var first *document
	for i, d := range o.documents {
		img, _, err := store.ParseManifest(d.data)
		if err != nil {
			continue // an index
		}
		if img.ID == id {
			return d, nil
		}
		if first == nil {
			first = &o.documents[i]
		}
	}
	if first == nil {
		return document{}, fault.Invalid("the index has no image")
	}
	return *first, nil
}

// writeBlobs writes all blobs, each once, in the order of their digests.
func writeBlobs(ctx context.Context, to sink, all []*saved) error {
	blobs := map[digest.Digest]func() error{}
	for _, one := range all {
		for _, d := range one.documents {
			blobs[d.digest] = func() error {
				return to.blob(ctx, d.digest, int64(len(d.data)), bytes.NewReader(d.data))
			}
		}
		for _, c := range one.contents {
			blobs[c.Digest] = func() error { return writeContent(ctx, to, c) }
		}
	}
	var order []digest.Digest
	for d := range blobs {
		order = append(order, d)
	}
	slices.Sort(order)
	for _, d := range order {
		if err := blobs[d](); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

func writeContent(ctx context.Context, to sink, c *content) error {
	f, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer f.Close()
	return to.blob(ctx, c.Digest, c.Size, &patient{ctx, f})
}

// blobName is where a blob stands in a layout.
func blobName(d digest.Digest) string {
	return ocispec.ImageBlobsDir + "/" + d.Algorithm().String() + "/" + d.Encoded()
}
