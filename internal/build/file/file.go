// Package file executes op.File: it copies into, and makes and removes files
// of, the tree of one new layer, as the Dockerfile instructions COPY, ADD and
// WORKDIR ask for.
//
// What a copy does in detail (what becomes of directories, links, patterns,
// owners and modes) is github.com/tonistiigi/fsutil/copy, the code that
// BuildKit runs. That code works with paths. Here it runs on a thread of its
// own whose root directory is the tree that is written and whose working
// directory is the one that is read (see jail): whatever links these trees
// have, and whoever changes them meanwhile, the host is out of reach.
package file

import "time"

// Options say on what Do works.
type Options struct {
	// Inputs are the trees of the vertex's inputs: directories of layers, top
	// first. Nil is the empty tree.
	Inputs [][]string
	// Rooted says of inputs whether all files count as 0:0's, whoever owns them
	// on the host, as those of build contexts do; nil: of none. What is unpacked
	// has the owners that its archive names.
	Rooted []bool
	// Upper becomes the new layer, over the tree that File.Base names. If it
	// is missing it is made; else it must be empty.
	Upper string
	// Work is an empty directory on Upper's file system, for the overlay; if
	// it is missing it is made. Without a base there is no overlay, and it is
	// not used.
	Work string
	// Epoch is the time of what is made newly where the action gives none;
	// nil: now.
	Epoch *time.Time
}

// maxUserFile bounds passwd and group files, as BuildKit does.
const maxUserFile = 10 << 20
