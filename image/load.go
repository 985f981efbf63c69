package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/archive"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/store"
)

// LoadOptions tune Load.
type LoadOptions struct {
	// Platform is the one wanted of images for several, and the only one that
	// is kept; default the host's, and the others beside it.
	Platform string
	// Name is the repository for images of an OCI layout that are only named
	// by a tag: with "team/app", "v1" becomes team/app:v1.
	Name string
	// Progress is told about each layer that is unpacked. Calls do not overlap.
	Progress func(Progress)
	// Packed leaves the layers packed until they are needed.
	Packed bool
}

// Loaded is one image that Load found.
type Loaded struct {
	Image *Image
	Refs  []Ref // the names it was given, none if the archive has none
}

// Load reads the images of an archive: one of `docker save`, old or new, or
// an OCI layout in a tar, plain or compressed. It reads r once, to its end. If
// anything in the archive is wrong nothing of it is loaded.
//
// The error Is fs.ErrInvalid when the archive is malformed, fs.ErrNotExist
// when an image has none for the platform; a truncated archive's Is
// io.ErrUnexpectedEOF.
func (s *Store) Load(ctx context.Context, r io.Reader, opts *LoadOptions) ([]Loaded, error) {
	if opts == nil {
		opts = &LoadOptions{}
	}
	loaded, err := s.loadTidy(ctx, func(sh *shelf) error { return sh.fill(ctx, r) }, opts)
	return loaded, fault.New("image load", "", err)
}

// LoadDir is Load for an OCI layout, or an unpacked archive of `docker save`,
// in a directory. Nothing outside of it is read, whatever links it has.
func (s *Store) LoadDir(ctx context.Context, dir string, opts *LoadOptions) ([]Loaded, error) {
	if opts == nil {
		opts = &LoadOptions{}
	}
	loaded, err := s.loadTidy(ctx, func(sh *shelf) error { return sh.fillFrom(ctx, dir) }, opts)
	return loaded, fault.New("image load", dir, err)
}

// loadTidy is load, and what the Root's settings ask for after it.
func (s *Store) loadTidy(ctx context.Context, fill func(*shelf) error, opts *LoadOptions) ([]Loaded, error) {
	loaded, err := s.load(ctx, fill, opts)
	if len(loaded) == 0 || err != nil {
		return loaded, err
	}
	return loaded, s.tidy(ctx, loaded[len(loaded)-1].Image, false)
}

func (s *Store) load(ctx context.Context, fill func(*shelf) error, opts *LoadOptions) ([]Loaded, error) {
	want, err := parsePlatform(opts.Platform)
	if err != nil {
		return nil, err
	}
	if opts.Name != "" {
		if _, err := parseRef(opts.Name); err != nil {
			return nil, err
		}
	}
	l, err := s.s.Lease(ctx)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	shelf, err := newShelf(s, l)
	if err != nil {
		return nil, err
	}
	if err := fill(shelf); err != nil {
		return nil, err
	}
	step.At("load.staged")
	found, err := shelf.images(opts, want)
	if errors.Is(err, fs.ErrInvalid) && shelf.zeros < endOfTar {
		return nil, fmt.Errorf("the archive is truncated: %w: %w", io.ErrUnexpectedEOF, err)
	}
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		if err := shelf.adopt(ctx, f, opts); err != nil {
			return nil, err
		}
	}
	step.At("load.blobs")
	var out []Loaded
	for _, f := range found {
		one, err := s.nameLoaded(ctx, f)
		if err != nil {
			return out, err
		}
		out = append(out, one)
	}
	return out, nil
}

// found is an image of an archive, before it is in the store.
type found struct {
	img      *store.Image
	target   digest.Digest
	platform string
	names    []Ref
	// blobs that the image consists of besides its layers: indexes, manifest,
	// config.
	documents [][]byte
	// files holds, for each layer, where it lies among the staged files.
	files []*staged
	// extra is what the index has for other platforms.
	extra []*staged
}

func (s *Store) nameLoaded(ctx context.Context, f *found) (Loaded, error) {
	n := store.Name{Target: f.target, Manifest: f.img.Manifest, ImageID: f.img.ID, Platform: f.platform, MediaType: f.img.MediaType}
	if f.target != f.img.Manifest {
		n.MediaType = ocispec.MediaTypeImageIndex
	}
	names := make([]string, len(f.names))
	for i, ref := range f.names {
		names[i] = ref.String()
	}
	img, err := s.name(ctx, "load", n, names...)
	if err != nil {
		return Loaded{}, err
	}
	return Loaded{Image: img, Refs: f.names}, nil
}

// fill stages every file of the archive.
func (sh *shelf) fill(ctx context.Context, r io.Reader) error {
	plain, _, err := archive.Decompress(&patient{ctx, r})
	if err != nil {
		return truncated(err)
	}
	defer plain.Close()
	end := &tail{r: plain}
	defer func() { sh.zeros = end.zeros }()
	tr := tar.NewReader(end)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if err == io.EOF && n > 0 {
			break
		}
		if err == io.EOF {
			return fault.Invalid("the stream is empty; want an archive of docker save or an OCI layout")
		}
		if err != nil {
			return truncated(err)
		}
		if n >= maxEntries {
			return fault.Invalid("the archive has more than %d entries; an archive of images has a few for each layer", maxEntries)
		}
		if err := sh.entry(h, tr); err != nil {
			return truncated(err)
		}
	}
	_, err = io.Copy(io.Discard, end)
	return truncated(err)
}

// endOfTar is how many zero bytes close an archive. Some tools leave them
// away, so their absence alone is no error.
const endOfTar = 1024

// tail counts the zero bytes at the end of a stream.
type tail struct {
	r     io.Reader
	zeros int
}

func (t *tail) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	last := n
	for last > 0 && p[last-1] == 0 {
		last--
	}
	if last > 0 {
		t.zeros = 0
	}
	t.zeros += n - last
	return n, err
}

// maxEntries is far more than any archive of images has, and little memory.
const maxEntries = 100_000

func truncated(err error) error {
	switch {
	case err == nil || store.IsTrouble(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the archive is truncated: %w", err)
	case errors.Is(err, tar.ErrHeader):
		return fault.Invalid("not a tar archive, or a damaged one: %w", err)
	}
	return err
}

// patient makes reads end with the context.
type patient struct {
	ctx context.Context
	r   io.Reader
}

func (p *patient) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	return p.r.Read(b)
}
