package volumes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// copier copies a tree by descriptors: no name with a slash is ever resolved
// in the source, and no symbolic link followed, whatever changes there.
type copier struct {
	ctx     context.Context
	root    *os.File         // of the copy
	links   map[inode]string // files with several links -> their first name below root
	noClone bool             // this pair of file systems shares no extents
	files   int              // files and directories made
	buf     []byte
}

// syncEach is how many files are brought to disk one by one. Beyond, one
// syncfs is cheaper, though it waits for what others wrote, too.
const syncEach = 256

// flush brings the copy to disk.
func (c *copier) flush() error {
	if c.files > syncEach {
		return unix.Syncfs(int(c.root.Fd()))
	}
	return nil
}

// tree copies the content and attributes of a directory. rel is dst's path
// below the copy's root.
func (c *copier) tree(src, dst *os.File, rel string) error {
	for {
		names, err := src.Readdirnames(256)
		for _, name := range names {
			if err := c.entry(src, dst, name, path.Join(rel, name)); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	return c.finish(src, dst)
}

// finish gives a file or directory its attributes, after its content.
func (c *copier) finish(src, dst *os.File) error {
	if err := copyAttributes(src, dst); err != nil {
		return err
	}
	if c.files++; c.files <= syncEach {
		return dst.Sync()
	}
	return nil
}

func (c *copier) entry(src, dst *os.File, name, rel string) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(src.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return failed(rel, err)
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && st.Nlink > 1 {
		id := inode{uint64(st.Dev), st.Ino}
		if first, ok := c.links[id]; ok {
			if err := unix.Linkat(int(c.root.Fd()), first, int(dst.Fd()), name, 0); err == nil {
				return nil
			} // too many links, or a path too long: a copy is better than none
		} else {
			c.links[id] = rel
		}
	}
	var err error
	switch kind {
	case unix.S_IFDIR:
		err = c.directory(src, dst, name, rel)
	case unix.S_IFREG:
		err = c.file(src, dst, name)
	case unix.S_IFLNK:
		err = c.symlink(src, dst, name, &st)
	default:
		if err = unix.Mknodat(int(dst.Fd()), name, kind|0o600, int(st.Rdev)); err == nil {
			err = attributesAt(src, dst, name, &st)
		}
	}
	return failed(rel, err)
}

// failed names the file, once.
func failed(rel string, err error) error {
	var named *os.PathError
	if err == nil || errors.As(err, &named) {
		return err
	}
	return &os.PathError{Op: "copy", Path: rel, Err: err}
}

func (c *copier) directory(src, dst *os.File, name, rel string) error {
	if err := unix.Mkdirat(int(dst.Fd()), name, 0o700); err != nil {
		return err
	}
	from, err := openAt(src, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := openAt(dst, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer to.Close()
	return c.tree(from, to, rel)
}

func (c *copier) symlink(src, dst *os.File, name string, st *unix.Stat_t) error {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(src.Fd()), name, buf)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(string(buf[:n]), int(dst.Fd()), name); err != nil {
		return err
	}
	return attributesAt(src, dst, name, st)
}

func (c *copier) file(src, dst *os.File, name string) error {
	// O_NONBLOCK: what was a file a moment ago may be a pipe by now.
	from, err := openAt(src, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("it changed while it was copied")
	}
	to, err := openAt(dst, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := c.content(from, to, &st); err != nil {
		return err
	}
	return c.finish(from, to)
}

func (c *copier) content(from, to *os.File, st *unix.Stat_t) error {
	if st.Size == 0 {
		return nil
	}
	if !c.noClone {
		if unix.IoctlFileClone(int(to.Fd()), int(from.Fd())) == nil {
			return nil
		}
		c.noClone = true
	}
	if st.Blocks*512 >= st.Size { // no holes
		return c.extent(from, to, 0, st.Size)
	}
	for at := int64(0); at < st.Size; {
		begin, err := unix.Seek(int(from.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // a hole up to the end
		}
		if err != nil { // no such seek here
			return c.extent(from, to, at, st.Size)
		}
		end, err := unix.Seek(int(from.Fd()), begin, unix.SEEK_HOLE)
		if err != nil {
			end = st.Size
		}
		if err := c.extent(from, to, begin, end); err != nil {
			return err
		}
		at = end
	}
	return to.Truncate(st.Size)
}

// extent copies the bytes from begin to end. A source that is shorter by now
// ends the copy.
func (c *copier) extent(from, to *os.File, begin, end int64) error {
	if c.buf == nil {
		c.buf = make([]byte, 256<<10)
	}
	for at := begin; at < end; {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		n, err := from.ReadAt(c.buf[:min(int64(len(c.buf)), end-at)], at)
		if n > 0 {
			if _, err := to.WriteAt(c.buf[:n], at); err != nil {
				return err
			}
			at += int64(n)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// openAt opens name in dir and follows no link.
func openAt(dir *os.File, name string, flags int, perm uint32) (*os.File, error) {
	for {
		fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}
