package build

import (
	"context"
	"io/fs"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/build/op"
)

// engine works off the graph of one build. A tree is an output of a vertex;
// equal vertices of one build are one pointer, and a nil vertex is the empty
// tree. Trees are evaluated when they are first needed, each once.
type engine interface {
	// Evaluate makes the tree.
	Evaluate(ctx context.Context, tree op.Input) error
	// ReadFile returns at most max bytes of a file, from its beginning; max 0
	// means all. Paths are slash-separated and relative to the tree, and what
	// is absent Is fs.ErrNotExist.
	ReadFile(ctx context.Context, tree op.Input, path string, max int64) ([]byte, error)
	Stat(ctx context.Context, tree op.Input, path string) (fs.FileInfo, error)
	ReadDir(ctx context.Context, tree op.Input, path string) ([]fs.DirEntry, error)

	// ImageConfig returns the canonical reference of an image, with the digest
	// of the manifest for the platform or of the index, that digest and the
	// image's configuration.
	ImageConfig(ctx context.Context, img *op.Image, p ocispec.Platform) (ref string, d digest.Digest, config []byte, err error)
	// LayoutConfig is ImageConfig for an OCI layout.
	LayoutConfig(ctx context.Context, img *op.Layout, p ocispec.Platform) (ref string, d digest.Digest, config []byte, err error)
	// GitHead says what the reference is now: the commit, the full name of the
	// reference, and the raw commit object if it is asked for.
	GitHead(ctx context.Context, g *op.Git, object bool) (*gitHead, error)
	// HTTPHead fetches the file, if it must, to say what it is.
	HTTPHead(ctx context.Context, h *op.HTTP) (*httpHead, error)
}

// gitHead is what a reference of a repository is.
type gitHead struct {
	Commit, Ref string
	Object      []byte // "tree ...", as git cat-file prints it
}

// httpHead is what is behind a URL.
type httpHead struct {
	Digest   digest.Digest
	Filename string
	Modified *time.Time // nil if the server does not say
}
