package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/store"
)

// layout is what stands beside the blobs.
type layout struct {
	index        ocispec.Index
	manifests    []dockerEntry                // nil for OCI alone
	repositories map[string]map[string]string // repository, tag, topmost layer
}

func newLayout(all []*saved, oci bool) (*layout, error) {
	l := &layout{index: ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}}
	if !oci {
		l.repositories = map[string]map[string]string{}
	}
	for _, one := range all {
		if len(one.names) == 0 {
			l.index.Manifests = append(l.index.Manifests, one.top().descriptor())
		}
		for _, ref := range one.names {
			d := one.top().descriptor()
			d.Annotations = map[string]string{annotationName: ref.String(), ocispec.AnnotationRefName: ref.Tag}
			l.index.Manifests = append(l.index.Manifests, d)
		}
		if !oci {
			if err := l.docker(one); err != nil {
				return nil, err
			}
		}
	}
	return l, nil
}

// docker adds an image to the lists of `docker save`.
func (l *layout) docker(one *saved) error {
	img, _, err := store.ParseManifest(one.image.data)
	if err != nil {
		return fault.Opaque(err)
	}
	e := dockerEntry{Config: blobName(img.ID), Layers: []string{}}
	top := img.ID
	for _, layer := range img.Layers {
		top = layer.Blob.Digest
		e.Layers = append(e.Layers, blobName(top))
	}
	for _, ref := range one.names {
		e.RepoTags = append(e.RepoTags, ref.Familiar())
		bare := ref
		bare.Tag = ""
		repo := bare.Familiar()
		if l.repositories[repo] == nil {
			l.repositories[repo] = map[string]string{}
		}
		l.repositories[repo][ref.Tag] = top.Encoded()
	}
	l.manifests = append(l.manifests, e)
	return nil
}

// tarSink writes an archive. Nothing in it depends on when or where it is made.
type tarSink struct {
	w     *tar.Writer
	begun bool
}

func newTarSink(w io.Writer) *tarSink { return &tarSink{w: tar.NewWriter(w)} }

func (t *tarSink) header(h tar.Header) error {
	h.ModTime = time.Unix(0, 0)
	h.Format = tar.FormatUSTAR
	if h.Size >= 8<<30 { // what USTAR's octal digits hold
		h.Format = tar.FormatPAX
	}
	return t.w.WriteHeader(&h)
}

func (t *tarSink) blob(_ context.Context, d digest.Digest, size int64, r io.Reader) error {
	if !t.begun {
		t.begun = true
		for _, dir := range []string{"blobs/", "blobs/sha256/"} {
			if err := t.header(tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
				return err
			}
		}
	}
	if err := t.header(tar.Header{Name: blobName(d), Typeflag: tar.TypeReg, Mode: 0o644, Size: size}); err != nil {
		return err
	}
	return copyBlob(t.w, d, r)
}

func (t *tarSink) end(_ context.Context, l *layout) error {
	files := []struct {
		name string
		v    any
	}{{ocispec.ImageIndexFile, l.index}, {"manifest.json", l.manifests},
		{ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}}, {"repositories", l.repositories}}
	for _, f := range files {
		if l.repositories == nil && (f.name == "manifest.json" || f.name == "repositories") {
			continue
		}
		data, err := json.Marshal(f.v)
		if err != nil {
			return err
		}
		if err := t.header(tar.Header{Name: f.name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(data))}); err != nil {
			return err
		}
		if _, err := t.w.Write(data); err != nil {
			return err
		}
	}
	return t.w.Close()
}

// copyBlob copies a blob and sees that it is what it should be: an archive may
// be all that is left of an image one day.
func copyBlob(w io.Writer, d digest.Digest, r io.Reader) error {
	check := digest.SHA256.Digester()
	if _, err := io.CopyBuffer(io.MultiWriter(w, check.Hash()), r, make([]byte, 256<<10)); err != nil {
		return err
	}
	if check.Digest() != d {
		return fmt.Errorf("blob %s is damaged: its content is %s; pull or load the image again", d, check.Digest())
	}
	return nil
}

// dirSink writes a directory.
type dirSink struct {
	dir  string
	root *os.Root
	old  ocispec.Index
}

func newDirSink(dir string) (*dirSink, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	s := &dirSink{dir: dir, root: root}
	if err = s.readIndex(); errors.Is(err, fs.ErrNotExist) {
		err = nil
		if entries, _ := os.ReadDir(dir); len(entries) > 0 && !slices.ContainsFunc(entries, func(e os.DirEntry) bool {
			return e.Name() == "blobs" || e.Name() == ocispec.ImageLayoutFile || e.Name() == "."+ocispec.ImageIndexFile+".lock"
		}) {
			err = fault.Kind(fs.ErrExist, "directory %s has something else in it; give an empty one or an OCI layout", dir)
		}
	}
	if err == nil {
		err = root.MkdirAll("blobs/sha256", 0o755)
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return s, nil
}

func (s *dirSink) readIndex() error {
	data, err := s.root.ReadFile(ocispec.ImageIndexFile)
	if err != nil {
		return err
	}
	s.old = ocispec.Index{}
	if err := json.Unmarshal(data, &s.old); err != nil {
		return fault.Invalid("%s of directory %s is damaged: %w", ocispec.ImageIndexFile, s.dir, err)
	}
	return nil
}

// blob writes under a name of its own first: a file with a digest for its name
// has that content. fs.ErrExist says that it is there.
func (s *dirSink) blob(_ context.Context, d digest.Digest, size int64, r io.Reader) (err error) {
	name := blobName(d)
	if st, err := s.root.Stat(name); err == nil && st.Size() == size {
		return fs.ErrExist
	}
	// A name of this save's own: another may write the same blob.
	tmp := fmt.Sprintf("%s.%016x.part", name, rand.Uint64())
	f, err := s.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			s.root.Remove(tmp)
		}
	}()
	if err := copyBlob(f, d, r); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return s.root.Rename(tmp, name)
}

// end adds to what others may have saved here meanwhile.
func (s *dirSink) end(ctx context.Context, l *layout) error {
	lockPath := s.dir + "/." + ocispec.ImageIndexFile + ".lock"
	lock, err := flock.Acquire(ctx, lockPath, flock.Exclusive)
	if err != nil {
		return err
	}
	defer func() {
		os.Remove(lockPath) // with the lock: flock sees that its file is another
		lock.Release()
	}()
	if err := s.readIndex(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	index := l.index
	named := func(name string) bool {
		return slices.ContainsFunc(l.index.Manifests, func(d ocispec.Descriptor) bool { return d.Annotations[annotationName] == name })
	}
	for _, d := range s.old.Manifests {
		if name := d.Annotations[annotationName]; name != "" && !named(name) ||
			name == "" && !slices.ContainsFunc(index.Manifests, func(n ocispec.Descriptor) bool { return n.Digest == d.Digest }) {
			index.Manifests = append(index.Manifests, d)
		}
	}
	if err := atomicfile.WriteJSON(s.dir+"/"+ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}, 0o644, true); err != nil {
		return err
	}
	return atomicfile.WriteJSON(s.dir+"/"+ocispec.ImageIndexFile, index, 0o644, true)
}
