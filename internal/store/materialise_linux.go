package store

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/step"
)

// Materialise merges layers, given bottom to top, into the directory dir as
// one plain tree: what an overlay of them would show, for hosts that have no
// overlay. dir must not exist. Files share their blocks with the layers where
// the file system can (reflink), else they are copied. On failure dir is gone.
// The caller leases the layers and has them unpacked.
func (s *Store) Materialise(ctx context.Context, chains []string, dir string) (err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return s.trouble(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeTree(dir))
		}
	}()
	dst, err := openDir(unix.AT_FDCWD, dir)
	if err != nil {
		return s.trouble(err)
	}
	defer unix.Close(dst)
	for _, c := range chains {
		src, err := openDir(unix.AT_FDCWD, s.LayerDir(c))
		if err != nil {
			return s.trouble(fmt.Errorf("layer %s: %w", c, err))
		}
		m := &merge{ctx: ctx, root: dst, links: map[inode]string{}}
		err = m.dir(src, dst, "")
		unix.Close(src)
		if err != nil {
			return s.trouble(fmt.Errorf("layer %s: %w", c, err))
		}
		step.At("materialise.layer")
	}
	return nil
}

// merge copies one layer over those below it. All work is on descriptors of
// directories, none of which is ever a symbolic link.
type merge struct {
	ctx   context.Context
	root  int
	links map[inode]string // where files with several names were copied to
}

type inode struct{ dev, ino uint64 }

func openDir(at int, name string) (int, error) {
	for {
		fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

func names(fd int) ([]string, error) {
	dup, err := openDir(fd, ".")
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(dup), "directory")
	defer f.Close()
	return f.Readdirnames(-1)
}

// dir merges the directory src into dst, which is at path, "" for the root.
func (m *merge) dir(src, dst int, path string) error {
	if opaque(src) {
		if err := empty(dst); err != nil {
			return err
		}
	}
	entries, err := names(src)
	if err != nil {
		return err
	}
	for _, name := range entries {
		if err := m.ctx.Err(); err != nil {
			return err
		}
		if err := m.entry(src, dst, name, path+name); err != nil {
			return fmt.Errorf("%s: %w", path+name, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	return copyMeta(src, dst, &st)
}

func opaque(fd int) bool {
	for _, attr := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		var buf [4]byte
		if n, err := unix.Fgetxattr(fd, attr, buf[:]); err == nil && n > 0 && buf[0] == 'y' {
			return true
		}
	}
	return false
}

func (m *merge) entry(src, dst int, name, path string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(src, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFDIR {
		return m.subdir(src, dst, name, path, &st)
	}
	if err := remove(dst, name); err != nil {
		return err
	}
	switch {
	case kind == unix.S_IFCHR && st.Rdev == 0:
		return nil // a whiteout
	case kind == unix.S_IFREG:
		return m.file(src, dst, name, path, &st)
	case kind == unix.S_IFLNK:
		return copyLink(src, dst, name, &st)
	default:
		if err := unix.Mknodat(dst, name, st.Mode, int(st.Rdev)); err != nil {
			return err
		}
		return setMeta(dst, name, &st)
	}
}

func (m *merge) subdir(src, dst int, name, path string, st *unix.Stat_t) error {
	var have unix.Stat_t
	err := unix.Fstatat(dst, name, &have, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && have.Mode&unix.S_IFMT != unix.S_IFDIR {
		if err = remove(dst, name); err == nil {
			err = unix.ENOENT
		}
	}
	if errors.Is(err, unix.ENOENT) {
		err = unix.Mkdirat(dst, name, 0o700)
	}
	if err != nil {
		return err
	}
	from, err := openDir(src, name)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := openDir(dst, name)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	return m.dir(from, to, path+"/")
}

// empty removes everything in a directory.
func empty(fd int) error {
	entries, err := names(fd)
	if err != nil {
		return err
	}
	for _, name := range entries {
		if err := remove(fd, name); err != nil {
			return err
		}
	}
	return nil
}

// remove deletes name in the directory dir, with all below it if it is one.
func remove(dir int, name string) error {
	err := unix.Unlinkat(dir, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	fd, err := openDir(dir, name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := empty(fd); err != nil {
		return err
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}
