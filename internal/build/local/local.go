// Package local reads build contexts: directories of the host that a build
// takes files from. Nothing is copied: a scan says what a context is, a view
// shows it as layers.
//
// Two things make a scan cheap. A filter, with BuildKit's rules, keeps it out
// of what the build cannot use. And a file of digests remembers what each
// file's content was when its inode, size and times were as they are now, so
// that a context in which nothing changed costs no more than looking at it.
//
// A context is what a builder would get that had it sent over a wire: all
// belongs to user and group 0, the root directory has mode 0755 and no
// attributes, sockets are empty files, devices 0:0 are not there.
package local

import "context"

// Filter says which files belong to a context. Patterns are those of
// .dockerignore files, without comments.
type Filter struct {
	Include []string // only what one of these matches; empty: all
	Exclude []string // nothing that these match, save what a later pattern with "!" takes back
	// Follow are paths, perhaps with wildcards, that are included with
	// everything that symbolic links on their way lead to; nil: none.
	Follow []string
}

// Dir is a directory of the host that is a build context.
type Dir struct {
	Path string
	Stat string // file of remembered digests, for this directory alone; "": none
}

// Scan looks at all files that belong to the context and makes sure of the
// digest of each. Symbolic links are never followed, so nothing outside of the
// directory is read. A file that changes while it is read is read again, and is
// an error if it does not stop to.
//
// The file Dir.Stat is replaced when there is something new to remember. It is
// never waited for, and any number of processes may use it; one that is damaged
// or cannot be written costs time only.
func (d *Dir) Scan(ctx context.Context, f *Filter) (*Manifest, error) { return d.scan(ctx, f) }
