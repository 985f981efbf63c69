package solve

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/overlay"
)

const opaque = "trusted.overlay.opaque"

// settle makes a layer that an overlay wrote say what it means also over other
// layers. The kernel marks directories as hiding what is below, those that it
// replaced and, depending on its version, those that are merely new in a
// directory of a lower layer: laid over another tree such a layer would hide
// what it never saw. The marks go; what they hid is deleted by name.
func settle(ctx context.Context, upper string, lowers []string) error {
	s := &settling{upper: upper, lowers: lowers}
	defer s.close()
	return fault.Opaque(filepath.WalkDir(upper, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || !d.IsDir() || path == upper {
			return err
		}
		marked, err := unmark(path)
		if !marked || err != nil {
			return err
		}
		rel, err := filepath.Rel(upper, path)
		if err != nil {
			return err
		}
		return s.hide(rel)
	}))
}

type settling struct {
	upper  string
	lowers []string
	tree   *os.File // of the lowers, once it is needed
}

func (s *settling) close() {
	if s.tree != nil {
		s.tree.Close()
	}
}

// unmark takes the mark from a directory and reports whether it had one.
func unmark(path string) (bool, error) {
	var value [1]byte
	n, err := unix.Lgetxattr(path, opaque, value[:])
	if err != nil || n != 1 || value[0] != 'y' {
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ERANGE) {
			err = nil
		}
		return false, err
	}
	return true, unix.Lremovexattr(path, opaque)
}

// hide deletes by name, in the layer's directory rel, what the lower layers
// have there and the layer has not.
func (s *settling) hide(rel string) error {
	below, err := s.below(rel)
	if len(below) == 0 || err != nil {
		return err
	}
	dir := filepath.Join(s.upper, rel)
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return err
	}
	for _, b := range below {
		path := filepath.Join(dir, b.Name())
		mine, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			err = unix.Mknod(path, unix.S_IFCHR, 0)
		case err == nil && mine.IsDir() && b.IsDir():
			if _, err = unmark(path); err == nil {
				err = s.hide(filepath.Join(rel, b.Name()))
			}
		}
		if err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, dir, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// below lists a directory of the lower layers; there are no links on the way,
// for the layer has directories there.
func (s *settling) below(rel string) ([]os.DirEntry, error) {
	if s.tree == nil {
		var err error
		if s.tree, err = overlay.Open(overlay.Layers{Lower: s.lowers}); err != nil {
			return nil, err
		}
	}
	how := &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(int(s.tree.Fd()), rel, how)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "openat2", Path: rel, Err: err}
	}
	f := os.NewFile(uintptr(fd), rel)
	defer f.Close()
	return f.ReadDir(-1)
}

// deletes returns the path of something that a layer deletes, "" if it deletes
// nothing.
func deletes(layer string) (path string, err error) {
	err = filepath.WalkDir(layer+"/.", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.Type() != fs.ModeDevice|fs.ModeCharDevice {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil || st.Rdev != 0 {
			return err
		}
		path = p[len(layer):]
		return fs.SkipAll
	})
	return path, fault.Opaque(err)
}
