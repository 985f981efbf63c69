package image

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/amphora-go/amphora/internal/archive"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// The values of Compress in options.
const (
	KeepCompression = "keep"
	Gzip            = "gzip"
	Zstd            = "zstd"
)

func checkCompress(s string) error {
	switch s {
	case "", KeepCompression, Gzip, Zstd:
		return nil
	}
	return fault.Invalid("compression %q is unknown: want keep, gzip or zstd", s)
}

// converter gives layers another compression, and makes those anew whose blob
// is not in the store. The same layer always gives the same bytes.
type converter struct {
	s     *Store
	lease *store.Lease
	// to is the format wanted, "" to leave all as they are.
	to        string
	plainOnly bool // what is compressed, somehow, stays as it is
	// there reports whether the destination has a blob, so that it need not be
	// made. May be nil.
	there func(ctx context.Context, d digest.Digest) bool
	tell  func(c *content) // that it begins; may be nil
}

// run returns out with its layers converted.
func (v *converter) run(ctx context.Context, out *outgoing) (*outgoing, error) {
	become := make([]*content, len(out.contents))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(2, runtime.NumCPU()))
	for i, c := range out.contents {
		become[i] = c
		if !v.wanted(c) && (c.open != nil || v.there != nil && v.there(ctx, c.Digest)) {
			continue
		}
		g.Go(func() (err error) {
			if c.open == nil && v.s.restore(gctx, v.lease, c) && !v.wanted(c) {
				return nil
			}
			become[i], err = v.convert(gctx, c)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	changed := map[digest.Digest]ocispec.Descriptor{}
	done := &outgoing{}
	for i, c := range out.contents {
		done.addContent(become[i])
		if become[i].Digest != c.Digest {
			changed[c.Digest] = become[i].Descriptor
		}
	}
	for _, d := range out.documents {
		renewed, err := rewrite(d, changed)
		if err != nil {
			return nil, err
		}
		if renewed.digest != d.digest {
			changed[d.digest] = renewed.descriptor()
		}
		done.addDocument(renewed)
	}
	return done, nil
}

func (v *converter) wanted(c *content) bool {
	have, ok := compressionOf(c.MediaType)
	if !c.layer || !ok || v.to == "" || c.diff == "" {
		return false
	}
	return have != v.to && (have == "" || !v.plainOnly)
}

// compressionOf tells the format from a layer's media type; "" is none. The
// bool is false for what is no layer of files.
func compressionOf(mediaType string) (string, bool) {
	base, format, _ := strings.Cut(mediaType, "+")
	switch {
	case base == ocispec.MediaTypeImageLayer:
		return format, true
	case mediaType == dockerLayer:
		return "", true
	case mediaType == dockerLayer+".gzip":
		return Gzip, true
	case mediaType == dockerLayer+".zstd":
		return Zstd, true
	}
	return "", false
}

const dockerLayer = "application/vnd.docker.image.rootfs.diff.tar"

// layerIn is the media type of a layer in a format, in the family that it is of.
func layerIn(mediaType, format string) string {
	if strings.HasPrefix(mediaType, dockerLayer) && format != Zstd { // Docker's has none for zstd
		if format == "" {
			return dockerLayer
		}
		return dockerLayer + "." + format
	}
	if format == "" {
		return ocispec.MediaTypeImageLayer
	}
	return ocispec.MediaTypeImageLayer + "+" + format
}

// convert writes the layer in its new format among the lease's working files.
func (v *converter) convert(ctx context.Context, c *content) (_ *content, err error) {
	if v.tell != nil {
		v.tell(c)
	}
	format := v.to
	if have, _ := compressionOf(c.MediaType); !v.wanted(c) {
		format = have
	}
	dir, err := v.lease.Dir()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "layer-"+c.Digest.Encoded())
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, v.s.s.Trouble(err)
	}
	defer f.Close()
	sum := &summed{w: &diskWriter{f: f}, hash: sha256.New()}
	got, err := v.write(ctx, sum, c, format)
	if sum.w.err != nil {
		return nil, v.s.s.Trouble(sum.w.err)
	}
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", c.Digest, err)
	}
	if got != c.diff {
		if c.open == nil {
			return nil, fmt.Errorf("layer %s: %w; its unpacked files give another archive, %s instead of %s", c.Digest, store.ErrMissing, got, c.diff)
		}
		return nil, fmt.Errorf("layer %s is damaged: its plain content is %s, not %s; pull or load the image again", c.Digest, got, c.diff)
	}
	if err := f.Close(); err != nil {
		return nil, v.s.s.Trouble(err)
	}
	n := *c
	n.MediaType, n.Size = layerIn(c.MediaType, format), sum.n
	n.Digest = digest.NewDigest(digest.SHA256, sum.hash)
	n.path = path
	n.open = func(context.Context) (blobFile, error) {
		f, err := os.Open(path)
		return f, v.s.s.Trouble(err)
	}
	return &n, nil
}

// write writes the layer to w and returns the digest of its plain tar.
func (v *converter) write(ctx context.Context, w io.Writer, c *content, format string) (digest.Digest, error) {
	z, err := compressor(w, format)
	if err != nil {
		return "", err
	}
	plain := sha256.New()
	if c.open == nil {
		err = archive.Create(ctx, io.MultiWriter(z, plain), v.s.s.LayerDir(c.chain), &archive.CreateOptions{Overlay: true})
	} else {
		err = decompressTo(ctx, z, plain, c)
	}
	if err != nil {
		z.Close()
		return "", err
	}
	return digest.NewDigest(digest.SHA256, plain), z.Close()
}

func decompressTo(ctx context.Context, w io.Writer, plain io.Writer, c *content) error {
	f, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer f.Close()
	r, _, err := archive.DecompressTee(&patient{ctx, f}, plain)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, r, make([]byte, 256<<10))
	return err
}

// compressor writes w in a format. Its output depends on nothing but its
// input: no time, no name, no number of processors.
func compressor(w io.Writer, format string) (io.WriteCloser, error) {
	switch format {
	case "":
		return flushed{bufio.NewWriterSize(w, 256<<10)}, nil
	case Gzip:
		return gzip.NewWriterLevel(w, gzip.DefaultCompression)
	case Zstd:
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	}
	return nil, fault.Unsupported("layers compressed with %s cannot be written; gzip and zstd can", format)
}

type flushed struct{ *bufio.Writer }

func (f flushed) Close() error { return f.Flush() }

// summed counts and hashes what is written.
type summed struct {
	w    *diskWriter
	hash hash.Hash
	n    int64
}

func (s *summed) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.hash.Write(p[:n])
	s.n += int64(n)
	return n, err
}

// rewrite puts what has changed into a document.
func rewrite(d document, changed map[digest.Digest]ocispec.Descriptor) (document, error) {
	if isIndexType(d.mediaType) {
		return rewriteIndex(d, changed)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(d.data, &m); err != nil {
		return d, fault.Opaque(err)
	}
	touched, zstds := false, false
	for i, l := range m.Layers {
		if n, ok := changed[l.Digest]; ok {
			m.Layers[i].MediaType, m.Layers[i].Digest, m.Layers[i].Size = n.MediaType, n.Digest, n.Size
			touched = true
		}
		zstds = zstds || strings.HasSuffix(m.Layers[i].MediaType, "+zstd")
	}
	if !touched {
		return d, nil
	}
	if zstds && m.MediaType == store.DockerManifest {
		m.MediaType, m.Config.MediaType = ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig
		for i, l := range m.Layers {
			format, _ := compressionOf(l.MediaType)
			m.Layers[i].MediaType = layerIn(ocispec.MediaTypeImageLayer, format)
		}
	}
	data, err := json.Marshal(m)
	return newDocument(data), err
}

func rewriteIndex(d document, changed map[digest.Digest]ocispec.Descriptor) (document, error) {
	var index ocispec.Index
	if err := json.Unmarshal(d.data, &index); err != nil {
		return d, fault.Opaque(err)
	}
	touched := false
	for i, e := range index.Manifests {
		n, ok := changed[e.Digest]
		if ok {
			index.Manifests[i].MediaType, index.Manifests[i].Digest, index.Manifests[i].Size = n.MediaType, n.Digest, n.Size
		}
		const about = "vnd.docker.reference.digest" // an attestation's image
		if n, is := changed[digest.Digest(e.Annotations[about])]; is {
			index.Manifests[i].Annotations[about], ok = string(n.Digest), true
		}
		touched = touched || ok
	}
	if !touched {
		return d, nil
	}
	data, err := json.Marshal(index)
	return newDocument(data), err
}
