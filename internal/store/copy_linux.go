package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// file copies a regular file, or links it to the copy of its other name.
func (m *merge) file(src, dst int, name, path string, st *unix.Stat_t) error {
	id := inode{uint64(st.Dev), st.Ino}
	if st.Nlink > 1 {
		if first, ok := m.links[id]; ok {
			return unix.Linkat(m.root, first, dst, name, 0)
		}
		m.links[id] = path
	}
	in, err := unix.Openat(src, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	from := os.NewFile(uintptr(in), name)
	defer from.Close()
	out, err := unix.Openat(dst, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	to := os.NewFile(uintptr(out), name)
	defer to.Close()
	if err := copyContent(to, from, st.Size); err != nil {
		return err
	}
	if err := copyMeta(in, out, st); err != nil {
		return err
	}
	return to.Close()
}

// copyContent shares the blocks if possible, else copies what is not a hole.
func copyContent(to, from *os.File, size int64) error {
	if size == 0 || unix.IoctlFileClone(int(to.Fd()), int(from.Fd())) == nil {
		return nil
	}
	if err := to.Truncate(size); err != nil {
		return err
	}
	for at := int64(0); at < size; {
		data, err := unix.Seek(int(from.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // a hole to the end
		}
		if err != nil {
			data = at // no notion of holes
		}
		hole, err := unix.Seek(int(from.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			hole = size
		}
		if _, err := from.Seek(data, io.SeekStart); err != nil {
			return err
		}
		if _, err := to.Seek(data, io.SeekStart); err != nil {
			return err
		}
		// os.File uses copy_file_range here.
		if _, err := io.CopyN(to, from, hole-data); err != nil {
			return err
		}
		at = hole
	}
	return nil
}

func copyLink(src, dst int, name string, st *unix.Stat_t) error {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(src, name, buf)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(string(buf[:n]), dst, name); err != nil {
		return err
	}
	return setMeta(dst, name, st)
}

// setMeta is for what cannot be opened without effect: links, devices, pipes.
func setMeta(dir int, name string, st *unix.Stat_t) error {
	if err := unix.Fchownat(dir, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		// It was made just now in a directory that is ours alone.
		if err := unix.Fchmodat(dir, name, st.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(dir, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// copyMeta gives a file or directory owner, mode, attributes and times.
func copyMeta(src, dst int, st *unix.Stat_t) error {
	if err := unix.Fchown(dst, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(dst, st.Mode&0o7777); err != nil {
		return err
	}
	if err := copyXattrs(src, dst); err != nil {
		return err
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	return unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", dst), times, 0)
}

// copyXattrs gives dst the attributes of src and no others: a directory over a
// lower one hides what that had.
func copyXattrs(src, dst int) error {
	want, err := xattrs(src)
	if err != nil {
		return err
	}
	have, err := xattrs(dst)
	if err != nil {
		return err
	}
	for _, attr := range have {
		if !slices.Contains(want, attr) {
			unix.Fremovexattr(dst, attr) // those that cannot be removed are the file system's own
		}
	}
	value := make([]byte, 64<<10) // the kernel's limit for a value
	for _, attr := range want {
		n, err := unix.Fgetxattr(src, attr, value)
		if err != nil {
			return fmt.Errorf("attribute %s: %w", attr, err)
		}
		if err := unix.Fsetxattr(dst, attr, value[:n], 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("attribute %s: %w", attr, err)
		}
	}
	return nil
}

// xattrs lists a file's attributes but for those that are overlay's own.
func xattrs(fd int) ([]string, error) {
	n, err := unix.Flistxattr(fd, nil)
	if errors.Is(err, unix.ENOTSUP) || n == 0 && err == nil {
		return nil, nil
	}
	buf := make([]byte, 64<<10) // the kernel's limit for a list of names
	if n, err = unix.Flistxattr(fd, buf); err != nil {
		return nil, err
	}
	list := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	return slices.DeleteFunc(list, func(attr string) bool {
		return attr == "" || strings.HasPrefix(attr, "trusted.overlay.") || strings.HasPrefix(attr, "user.overlay.")
	}), nil
}
