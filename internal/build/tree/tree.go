// Package tree computes what file trees are: the digest of a layer, and of a
// part of a stack of layers. Two trees have one digest if and only if nobody
// can tell them apart save by times: names, kinds, modes, owners, link targets,
// device numbers, extended attributes, contents and which names are hard links
// of one file are the same.
package tree

import (
	"context"

	"github.com/opencontainers/go-digest"
)

// Digest is that of a layer in overlay form. Its whiteouts and opaque
// directories count, other attributes of overlayfs do not: two layers of one
// digest change any tree below them alike. Attributes that belong to the host
// (SELinux labels, integrity hashes) do not count either, an image never
// carries them. The layer must not change meanwhile.
func Digest(ctx context.Context, layer string) (digest.Digest, error) {
	return digestOf(ctx, layer)
}

// Selected is the digest of what a mount of path shows, where path is resolved
// inside the tree that the layers in lowers, topmost first, make: a directory
// with all below it or a file, of which links lead to it is no part. No lowers
// are an empty tree. An error for a path that leads to nothing Is
// fs.ErrNotExist.
func Selected(ctx context.Context, lowers []string, path string) (digest.Digest, error) {
	return selected(ctx, lowers, path)
}
