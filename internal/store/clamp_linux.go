package store

import (
	"context"
	"io/fs"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// newerThan reports whether anything in a layer but whiteouts, which have no
// time in an archive, and the root, which is not in it, has a later time.
func newerThan(ctx context.Context, tree string, latest time.Time) (bool, error) {
	limit := latest.UnixNano()
	found := false
	err := filepath.WalkDir(tree, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || path == tree {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &fs.PathError{Op: "lstat", Path: path, Err: err}
		}
		if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 {
			return nil
		}
		if st.Mtim.Nano() > limit {
			found = true
			return fs.SkipAll
		}
		return nil
	})
	return found, err
}
