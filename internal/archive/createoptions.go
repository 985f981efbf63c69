package archive

import "time"

// CreateOptions tune Create. The zero value writes what is below the
// directory, and no entry for the directory itself.
type CreateOptions struct {
	// Path selects what to write: a file or directory below the root, whose
	// directory part may contain symbolic links that stay inside. A last
	// symbolic link is written as such. Empty means the root.
	Path string
	// As is the name that Path gets in the archive. Empty means the last
	// component of Path, or no name and no entry for the root.
	As string
	// Root writes an entry "./" for the root when neither Path nor As is
	// given, so that its mode and owner travel along.
	Root bool
	// Overlay reads the directory as an overlay layer: whiteouts and opaque
	// directories become ".wh." names. Files with such a name are refused.
	Overlay bool
	// Skip leaves out what it returns true for, by the name in the archive,
	// and all below.
	Skip func(name string) bool
	// Deleted are names that get a whiteout each, after everything else.
	Deleted []string
	// MapID turns the owner on disk into the owner in the archive. Nil keeps
	// it.
	MapID func(uid, gid int) (int, int, error)
	// MaxTime, unless zero, takes the place of later modification times, as
	// SOURCE_DATE_EPOCH asks for.
	MaxTime time.Time
}
