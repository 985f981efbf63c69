package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// shelf holds the files of an archive of images. A stream cannot be sought
// and layers may come before the manifest that says what they are, so each
// file is staged under a number of ours, and found by its name or digest
// later. No name of the archive is ever a path on disk.
type shelf struct {
	s     *Store
	lease *store.Lease
	dir   string

	byName   map[string]*staged
	byDigest map[digest.Digest]*staged
	links    map[string]string // symbolic and hard links: name to name
	n        int
	zeros    int // at the end of the archive
}

// staged is one file.
type staged struct {
	digest digest.Digest
	size   int64
	head   []byte
	path   string // "" when the content is in data
	data   []byte
}

// smallFile is what is kept in memory: manifests and configs are smaller,
// most layers larger.
const (
	smallFile = 64 << 10
	maxSmall  = 64 << 20 // of all small files together
)

func newShelf(s *Store, l *store.Lease) (*shelf, error) {
	dir, err := l.Dir()
	if err != nil {
		return nil, err
	}
	return &shelf{s: s, lease: l, dir: dir, byName: map[string]*staged{}, byDigest: map[digest.Digest]*staged{}, links: map[string]string{}}, nil
}

// clean gives names one form: rooted, without "." and "..".
func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

func (sh *shelf) entry(h *tar.Header, r io.Reader) error {
	name := clean(h.Name)
	switch h.Typeflag {
	case tar.TypeReg:
		f, err := sh.stage(h, r)
		if err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		sh.byName[name] = f
		delete(sh.links, name)
	case tar.TypeSymlink: // docker save wrote ../ID/layer.tar for equal layers
		sh.links[name] = clean(path.Join(path.Dir("/"+name), h.Linkname))
	case tar.TypeLink:
		sh.links[name] = clean(h.Linkname)
	case tar.TypeDir, tar.TypeXGlobalHeader:
	default:
		return fault.Invalid("%s: entry of type %q has no place in an archive of images", h.Name, h.Typeflag)
	}
	return nil
}

// stage keeps one file and computes its digest.
func (sh *shelf) stage(h *tar.Header, r io.Reader) (*staged, error) {
	if h.Size > smallFile || sh.small() >= maxSmall {
		return sh.stageFile(h, r)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != h.Size {
		return nil, io.ErrUnexpectedEOF
	}
	return sh.keep(&staged{digest: digest.FromBytes(data), size: int64(len(data)), data: data, head: data[:min(8, len(data))]}), nil
}

func (sh *shelf) small() int64 {
	return int64(sh.n) * smallFile
}

func (sh *shelf) stageFile(h *tar.Header, r io.Reader) (_ *staged, err error) {
	if err := sh.s.s.CheckSpace(h.Size); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(sh.dir, "file-")
	if err != nil {
		return nil, sh.s.s.Trouble(err)
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	hash := sha256.New()
	st := &staged{path: f.Name(), head: make([]byte, 8)}
	n, err := io.ReadFull(r, st.head)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return nil, err
	}
	st.head = st.head[:n]
	w := &diskWriter{f: f}
	st.size, err = io.CopyBuffer(io.MultiWriter(hash, w), io.MultiReader(bytes.NewReader(st.head), r), make([]byte, 256<<10))
	if w.err != nil {
		return nil, sh.s.s.Trouble(w.err)
	}
	if err != nil {
		return nil, err
	}
	if st.size != h.Size {
		return nil, io.ErrUnexpectedEOF
	}
	if err := f.Close(); err != nil {
		return nil, sh.s.s.Trouble(err)
	}
	st.digest = digest.NewDigest(digest.SHA256, hash)
	return sh.keep(st), nil
}

// diskWriter tells trouble with the disk from trouble with the stream.
type diskWriter struct {
	f   *os.File
	err error
}

func (w *diskWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	w.err = err
	return n, err
}

// keep remembers a file once for each digest.
func (sh *shelf) keep(st *staged) *staged {
	sh.n++
	if have := sh.byDigest[st.digest]; have != nil {
		if st.path != "" {
			os.Remove(st.path)
		}
		return have
	}
	sh.byDigest[st.digest] = st
	return st
}

// file finds a file by its name in the archive, through links.
func (sh *shelf) file(name string) (*staged, error) {
	name = clean(name)
	for range 16 { // links upon links
		if f := sh.byName[name]; f != nil {
			return f, nil
		}
		to, ok := sh.links[name]
		if !ok {
			return nil, fault.Invalid("the archive lacks %s", name)
		}
		name = to
	}
	return nil, fault.Invalid("the archive has a loop of links at %s", name)
}

// has reports whether the archive has a file of that name.
func (sh *shelf) has(name string) bool { return sh.byName[name] != nil }

// read returns a small file.
func (sh *shelf) read(f *staged) ([]byte, error) {
	if f.path == "" {
		return f.data, nil
	}
	if f.size > store.MaxMetadata {
		return nil, fault.Invalid("a manifest or config has %d bytes, more than the %d allowed", f.size, store.MaxMetadata)
	}
	data, err := os.ReadFile(f.path)
	return data, sh.s.s.Trouble(err)
}

// blob finds a file of an OCI layout by its descriptor.
func (sh *shelf) blob(d ocispec.Descriptor) (*staged, error) {
	if err := store.CheckDigest(d.Digest); err != nil {
		return nil, err
	}
	f := sh.byDigest[d.Digest]
	if f == nil {
		if wrong := sh.byName["blobs/sha256/"+d.Digest.Encoded()]; wrong != nil {
			return nil, fmt.Errorf("blob %s has content %s: %w", d.Digest, wrong.digest, store.ErrDigest)
		}
		return nil, fault.Invalid("the archive lacks blob %s", d.Digest)
	}
	if d.Size > 0 && d.Size != f.size {
		return nil, fault.Invalid("blob %s has %d bytes, its descriptor says %d", d.Digest, f.size, d.Size)
	}
	return f, nil
}

func (sh *shelf) readBlob(d ocispec.Descriptor) ([]byte, error) {
	f, err := sh.blob(d)
	if err != nil {
		return nil, err
	}
	return sh.read(f)
}

// adopt moves an image's blobs into the store and unpacks its layers.
func (sh *shelf) adopt(ctx context.Context, f *found, opts *LoadOptions) error {
	for _, st := range slices.Concat(f.files, f.extra) {
		if err := sh.adoptFile(ctx, st); err != nil {
			return err
		}
	}
	for _, doc := range f.documents {
		if _, err := sh.s.s.PutBlob(ctx, sh.lease, doc); err != nil {
			return err
		}
	}
	report := newReporter(opts.Progress, len(f.img.Layers))
	for i, l := range f.img.Layers {
		report.begin(i, string(l.Blob.Digest), l.Blob.Size)
		report.fetched(i, false)
	}
	if opts.Packed || store.CanUnpack() != nil {
		return nil
	}
	return sh.s.s.Unpack(ctx, sh.lease, f.img, &store.UnpackOptions{Progress: func(i int, u store.UnpackProgress) {
		if u != store.Unpacking {
			report.unpacked(i, u == store.Existed)
		}
	}})
}

func (sh *shelf) adoptFile(ctx context.Context, st *staged) error {
	if st.path == "" {
		_, err := sh.s.s.PutBlob(ctx, sh.lease, st.data)
		return err
	}
	if _, err := os.Lstat(st.path); os.IsNotExist(err) {
		return nil // adopted for another image of the archive, or another layer
	}
	return sh.s.s.AdoptBlob(ctx, sh.lease, st.path, st.digest)
}
