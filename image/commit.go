package image

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/store"
)

// CommitOptions tune Commit.
type CommitOptions struct {
	// Ref names the image; "" leaves it without a name.
	Ref string
	// Configure, if not nil, changes what containers of the base run with.
	Configure func(*RunConfig) error
	// Author and Comment stand in the image and its history, CreatedBy, the
	// command that made the layer, in the history.
	Author, Comment, CreatedBy string
	// Created is the image's date; zero means now.
	Created time.Time
}

// Commit makes an image that adds one layer to another. base is the manifest
// of that one, which somebody keeps: a container, a name or a lease; "" for
// none. layer is a plain tar with whiteouts as OCI has them, which is read to
// its end. On failure nothing stays behind.
func (s *Store) Commit(ctx context.Context, base string, layer io.Reader, opts *CommitOptions) (*Image, error) {
	if opts == nil {
		opts = &CommitOptions{}
	}
	img, err := s.commit(ctx, base, layer, opts)
	if err == nil {
		err = s.tidy(ctx, img, false)
	}
	if err != nil {
		return nil, fault.New("image commit", opts.Ref, err)
	}
	return img, nil
}

func (s *Store) commit(ctx context.Context, base string, layer io.Reader, opts *CommitOptions) (*Image, error) {
	name, err := newName(opts.Ref)
	if err != nil {
		return nil, err
	}
	l, err := s.s.Lease(ctx)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	config, layers, err := s.committed(ctx, l, base)
	if err != nil {
		return nil, err
	}
	if err := opts.apply(config); err != nil {
		return nil, err
	}
	blob, err := s.storeTar(ctx, l, layer)
	if err != nil {
		return nil, err
	}
	step.At("commit.layer")
	config.RootFS.Type, config.RootFS.DiffIDs = "layers", append(config.RootFS.DiffIDs, blob.Digest)
	return s.write(ctx, l, "commit", name, config, append(layers, blob))
}

// committed is what a commit begins with.
func (s *Store) committed(ctx context.Context, l *store.Lease, base string) (*Config, []ocispec.Descriptor, error) {
	if base == "" {
		p, err := parsePlatform("")
		c := new(Config)
		c.Image.Platform = p
		return c, nil, err
	}
	img, err := s.s.Image(digest.Digest(base))
	if err != nil {
		return nil, nil, fault.Opaque(err)
	}
	if err := l.AddImage(ctx, img); err != nil {
		return nil, nil, err
	}
	h, err := s.handle(img, "")
	if err != nil {
		return nil, nil, err
	}
	return h.Config(), h.Blobs(), nil
}

func (o *CommitOptions) apply(c *Config) error {
	created := o.Created
	if created.IsZero() {
		created = time.Now()
	}
	created = created.UTC()
	c.Created, c.Author, c.Comment = &created, o.Author, o.Comment
	if o.Configure != nil {
		if err := o.Configure(&c.Config); err != nil {
			return err
		}
	}
	c.Image.Config = c.Config.ImageConfig
	c.History = append(c.History, ocispec.History{Created: &created, Author: o.Author, Comment: o.Comment, CreatedBy: o.CreatedBy})
	return nil
}

// storeTar keeps a plain tar as a blob: its digest is the layer's too.
func (s *Store) storeTar(ctx context.Context, l *store.Lease, r io.Reader) (blob ocispec.Descriptor, err error) {
	dir, err := l.Dir()
	if err != nil {
		return blob, err
	}
	path := filepath.Join(dir, "commit")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return blob, s.s.Trouble(err)
	}
	defer f.Close()
	in := &spool{ctx: ctx, r: r, w: f, hash: sha256.New()}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return blob, in.cause(s, err)
	}
	if err := f.Close(); err != nil {
		return blob, s.s.Trouble(err)
	}
	blob = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Size: in.n, Digest: digest.NewDigest(digest.SHA256, in.hash)}
	return blob, s.s.AdoptBlob(ctx, l, path, blob.Digest)
}
