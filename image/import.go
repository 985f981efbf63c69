package image

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/archive"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/store"
)

// ImportOptions tune Import.
type ImportOptions struct {
	// Ref names the image; "" leaves it without a name.
	Ref string
	// Platform is what its programs run on, such as "linux/arm64"; default
	// the host's.
	Platform string
	// Config is what containers of the image run with; nil for nothing.
	Config *RunConfig
	// Changes are applied to Config, see RunConfig.Apply.
	Changes []string
	// Comment stands in the image's history.
	Comment string
	// Created is the image's date; zero means now.
	Created time.Time
}

// Import makes an image of one layer from a tar of a root filesystem, plain or
// compressed with gzip, zstd or bzip2, which it reads to its end. Where layers
// can be unpacked they are, in the same pass. On failure nothing stays behind.
func (s *Store) Import(ctx context.Context, r io.Reader, opts *ImportOptions) (*Image, error) {
	if opts == nil {
		opts = &ImportOptions{}
	}
	img, err := s.importTar(ctx, r, opts)
	if err == nil {
		err = s.tidy(ctx, img, false)
	}
	if err != nil {
		return nil, fault.New("image import", opts.Ref, err)
	}
	return img, nil
}

func (s *Store) importTar(ctx context.Context, r io.Reader, opts *ImportOptions) (*Image, error) {
	name, err := newName(opts.Ref)
	if err != nil {
		return nil, err
	}
	config, err := opts.config()
	if err != nil {
		return nil, err
	}
	l, err := s.s.Lease(ctx)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	blob, diff, err := s.importLayer(ctx, l, r)
	if err != nil {
		return nil, err
	}
	step.At("import.layer")
	config.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diff}}
	return s.write(ctx, l, "import", name, config, []ocispec.Descriptor{blob})
}

// newName is the canonical name of an image that is to be made, "" for none.
func newName(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	ref, err := parseRef(text)
	if err != nil {
		return "", err
	}
	if ref.Digest != "" {
		return "", fault.Invalid("a new image cannot be named by a digest; leave %q away", "@"+ref.Digest)
	}
	return ref.String(), nil
}

// config is the configuration of the image to be, but for its layer.
func (o *ImportOptions) config() (*Config, error) {
	p, err := parsePlatform(o.Platform)
	if err != nil {
		return nil, err
	}
	created := o.Created
	if created.IsZero() {
		created = time.Now()
	}
	created = created.UTC()
	c := &Config{Comment: o.Comment}
	c.Created, c.Image.Platform = &created, p
	if o.Config != nil {
		c.Config = *o.Config
	}
	if err := c.Config.Apply(o.Changes...); err != nil {
		return nil, err
	}
	c.History = []ocispec.History{{Created: &created, Comment: o.Comment, CreatedBy: "import"}}
	return c, nil
}

var errEmpty = fault.Invalid("the stream is empty; want a tar of a root filesystem")

// importLayer stores r as a blob and, where possible, unpacks it.
func (s *Store) importLayer(ctx context.Context, l *store.Lease, r io.Reader) (ocispec.Descriptor, digest.Digest, error) {
	var none ocispec.Descriptor
	dir, err := l.Dir()
	if err != nil {
		return none, "", err
	}
	path := filepath.Join(dir, "import")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return none, "", s.s.Trouble(err)
	}
	defer f.Close()
	in := &spool{ctx: ctx, r: r, w: f, hash: sha256.New()}
	var diff digest.Digest
	if store.CanUnpack() == nil {
		st, err := s.s.StageLayer(ctx, l, in)
		if err != nil {
			return none, "", in.cause(s, err)
		}
		diff = st.Diff
		if in.n == 0 {
			return none, "", errEmpty
		}
		if _, err := s.s.FinishLayer(ctx, l, st); err != nil {
			return none, "", err
		}
	} else if diff, err = diffID(in); err != nil {
		return none, "", in.cause(s, err)
	}
	if in.n == 0 {
		return none, "", errEmpty
	}
	if err := f.Close(); err != nil {
		return none, "", s.s.Trouble(err)
	}
	blob := ocispec.Descriptor{MediaType: layerType(in.head), Size: in.n, Digest: digest.NewDigest(digest.SHA256, in.hash)}
	return blob, diff, s.s.AdoptBlob(ctx, l, path, blob.Digest)
}

// diffID reads a layer that is not to be unpacked.
func diffID(r io.Reader) (digest.Digest, error) {
	h := sha256.New()
	plain, _, err := archive.DecompressTee(r, h)
	if err != nil {
		return "", err
	}
	defer plain.Close()
	if _, err := io.Copy(io.Discard, bufio.NewReaderSize(plain, 256<<10)); err != nil {
		return "", err
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return "", err
	}
	return digest.NewDigest(digest.SHA256, h), nil
}

// layerType is the media type of a layer that begins with head.
func layerType(head []byte) string {
	switch {
	case len(head) >= 2 && head[0] == 0x1f && head[1] == 0x8b:
		return ocispec.MediaTypeImageLayerGzip
	case len(head) >= 4 && string(head[:4]) == "\x28\xb5\x2f\xfd":
		return ocispec.MediaTypeImageLayerZstd
	}
	return ocispec.MediaTypeImageLayer
}

// write stores config and manifest of an image whose layers are there, and
// gives it its name.
func (s *Store) write(ctx context.Context, l *store.Lease, action, name string, config *Config, layers []ocispec.Descriptor) (*Image, error) {
	data, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	a, err := s.assemble(ctx, l, []Parts{{Config: data, Layers: layers}}, &AssembleOptions{Action: action, Names: []string{name}})
	if err != nil {
		return nil, err
	}
	return a.Image, nil
}

// name gives an image that is complete, and leased, its names, one after the
// other, or keeps it without one.
func (s *Store) name(ctx context.Context, action string, n store.Name, names ...string) (*Image, error) {
	err := s.s.UpdateNames(ctx, func(tx *store.NamesTx) error {
		if have := tx.Of(n.ImageID); len(names) == 0 && len(have) > 0 {
			// It has a name, or is kept already: by that manifest, which need
			// not be ours.
			n.Manifest = have[0].Manifest
			return nil
		}
		if len(names) == 0 {
			return tx.Give(ctx, action, n)
		}
		for _, name := range names {
			n.Name = name
			if err := tx.Give(ctx, action, n); err != nil {
				return err
			}
			step.At("image.put")
		}
		n.Name = names[0]
		return nil
	})
	if err != nil {
		return nil, err
	}
	step.At("image.named")
	return s.open(&n)
}
