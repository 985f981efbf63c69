package store

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// Measure returns the sum of the sizes of all regular files below dir, and what
// everything there takes up on disk, both in bytes. A file with several names
// counts once. What vanishes meanwhile is left out. No symbolic link is followed.
func Measure(ctx context.Context, dir string) (size, disk int64, err error) {
	fd, err := openDir(unix.AT_FDCWD, dir)
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(fd)
	m := &measure{ctx: ctx}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, 0, err
	}
	m.count(&st)
	err = m.dir(fd)
	return m.size, m.disk, err
}

type measure struct {
	ctx        context.Context
	size, disk int64
	links      map[inode]bool
}

// blockUnit is that of st_blocks, whatever the file system's block size is.
const blockUnit = 512

func (m *measure) count(st *unix.Stat_t) {
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && st.Nlink > 1 {
		id := inode{uint64(st.Dev), st.Ino}
		if m.links[id] {
			return
		}
		if m.links == nil {
			m.links = map[inode]bool{}
		}
		m.links[id] = true
	}
	if kind == unix.S_IFREG {
		m.size += st.Size
	}
	m.disk += st.Blocks * blockUnit
}

func (m *measure) dir(fd int) error {
	if err := m.ctx.Err(); err != nil {
		return err
	}
	list, err := names(fd)
	if err != nil {
		return err
	}
	for _, name := range list {
		var st unix.Stat_t
		err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil && !gone(err) {
			return err
		}
		if err != nil {
			continue
		}
		m.count(&st)
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		if err := m.below(fd, name); err != nil {
			return err
		}
	}
	return nil
}

func (m *measure) below(fd int, name string) error {
	sub, err := openDir(fd, name)
	if err != nil {
		if gone(err) {
			return nil
		}
		return err
	}
	defer unix.Close(sub)
	return m.dir(sub)
}

// gone tells what somebody removed or replaced since it was listed.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}
