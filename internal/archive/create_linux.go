package archive

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
)

// creator writes one archive.
type creator struct {
	ctx   context.Context
	opts  CreateOptions
	tw    *tar.Writer
	buf   []byte
	links map[inode]string // first name of files with several
}

type inode struct{ dev, ino uint64 }

// Create writes the tree in dir to w as a tar stream in PAX format: sorted, so
// that equal trees give equal bytes, with nanoseconds, hard links, device
// nodes and extended attributes (those that mean something elsewhere; see
// portable). Sockets are left out. Somebody may be writing to the tree
// meanwhile: no symbolic link is followed and nothing but regular files is
// opened, so the archive holds only what is inside dir; a file that shrinks is
// an error.
func Create(ctx context.Context, w io.Writer, dir string, opts *CreateOptions) error {
	c := &creator{ctx: ctx, buf: make([]byte, chunkSize), links: map[inode]string{}}
	if opts != nil {
		c.opts = *opts
	}
	root, err := openRetry(func() (int, error) {
		return unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return fault.Opaque(pathErr("open", dir, err))
	}
	defer unix.Close(root)
	bw := bufio.NewWriterSize(w, chunkSize)
	c.tw = tar.NewWriter(bw)
	if err := c.start(root); err != nil {
		return err
	}
	for _, name := range c.opts.Deleted {
		if err := c.deleted(path.Join(path.Dir(name), ".wh."+path.Base(name))); err != nil {
			return err
		}
	}
	if err := c.tw.Close(); err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	if err := bw.Flush(); err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	return nil
}

// start finds what to write. Only its absence Is fs.ErrNotExist.
func (c *creator) start(root int) error {
	p, err := clean(c.opts.Path)
	if err != nil {
		return err
	}
	if p == "." {
		if c.opts.As != "" || c.opts.Root {
			return c.object(root, ".", c.opts.As)
		}
		return c.children(root, "")
	}
	parent, err := openat2(root, path.Dir(p), unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return pathErr("open", c.opts.Path, err)
	}
	defer unix.Close(parent)
	if _, missing, err := lstat(parent, path.Base(p)); err != nil || missing {
		return pathErr("open", c.opts.Path, unix.ENOENT)
	}
	as := c.opts.As
	if as == "" {
		as = path.Base(p)
	}
	return c.object(parent, path.Base(p), as)
}

// object writes base of dir, and all below, as name; "" is the root.
func (c *creator) object(dir int, base, name string) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if c.opts.Skip != nil && name != "" && c.opts.Skip(name) {
		return nil
	}
	fd, err := openRetry(func() (int, error) {
		return unix.Openat(dir, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if errors.Is(err, unix.ENOENT) {
		return nil // removed since it was listed
	}
	if err != nil {
		return createErr(name, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return createErr(name, err)
	}
	if c.opts.Overlay {
		if isWhiteout(&st) {
			return c.deleted(path.Join(path.Dir(name), ".wh."+path.Base(name)))
		}
		if strings.HasPrefix(path.Base(name), ".wh.") {
			return fault.Invalid("%q cannot be part of a layer: names that begin with .wh. mean deleted files", name)
		}
	}
	if err := c.write(fd, name, &st); err != nil {
		return createErr(name, err)
	}
	if !isDir(&st) {
		return nil
	}
	return c.children(fd, name)
}

// createErr hides kinds as storeErr does, once.
func createErr(name string, err error) error {
	var out writeErr
	if errors.As(err, &out) {
		return err
	}
	return storeErr(fmt.Errorf("archiving %.256q: %w", name, err))
}

// writeErr is an error of the output, which belongs to the caller.
type writeErr struct{ error }

func (e writeErr) Unwrap() error { return e.error }

func (c *creator) children(fd int, name string) error {
	list, err := names(fd)
	if err != nil {
		return createErr(name, err)
	}
	if c.opts.Overlay && name != "" {
		opaque, err := hasOpaque(procPath(fd, "."))
		if err != nil {
			return createErr(name, err)
		}
		if opaque {
			if err := c.deleted(name + "/.wh..wh..opq"); err != nil {
				return err
			}
		}
	}
	slices.Sort(list)
	for _, n := range list {
		if err := c.object(fd, n, path.Join(name, n)); err != nil {
			return err
		}
	}
	return nil
}

// deleted writes an empty file with a reserved name.
func (c *creator) deleted(name string) error {
	return c.header(&tar.Header{Typeflag: tar.TypeReg, Name: name})
}

func (c *creator) header(h *tar.Header) error {
	h.Format = tar.FormatPAX
	if err := c.tw.WriteHeader(h); err != nil {
		if errors.Is(err, tar.ErrHeader) {
			return fault.Invalid("tar cannot hold %.256q: %w", h.Name, err)
		}
		return writeErr{fmt.Errorf("writing the archive: %w", err)}
	}
	return nil
}

// write writes one object, whose O_PATH descriptor is fd.
func (c *creator) write(fd int, name string, st *unix.Stat_t) error {
	m := metaOf(st)
	h := &tar.Header{Name: name, Mode: int64(m.Mode), Uid: m.UID, Gid: m.GID, ModTime: m.Mtime}
	if c.opts.MapID != nil {
		var err error
		if h.Uid, h.Gid, err = c.opts.MapID(m.UID, m.GID); err != nil {
			return err
		}
	}
	if t := c.opts.MaxTime; !t.IsZero() && h.ModTime.After(t) {
		h.ModTime = t
	}
	format := st.Mode & unix.S_IFMT
	switch format {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, path.Clean(name)+"/"
	case unix.S_IFLNK:
		var err error
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = readlinkat(fd, ""); err != nil {
			return err
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if format == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return nil // a socket: no use without its server
	}
	if format != unix.S_IFDIR && st.Nlink > 1 {
		key := inode{uint64(st.Dev), st.Ino}
		if first, ok := c.links[key]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		} else {
			c.links[key] = name
		}
	}
	if err := c.xattrs(fd, h); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeReg && h.Size > 0 {
		return c.file(fd, h)
	}
	return c.header(h)
}

func (c *creator) xattrs(fd int, h *tar.Header) error {
	x, err := readXattrs(procPath(fd))
	if err != nil {
		return err
	}
	for key, val := range x {
		if !portable(key) {
			continue
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+key] = val
	}
	return nil
}

// portable reports whether an attribute belongs to the file and not to this
// host: SELinux labels, integrity hashes and the like stay. PAX has no way to
// write a key with "=".
func portable(key string) bool {
	if strings.Contains(key, "=") {
		return false
	}
	return key == "security.capability" || strings.HasPrefix(key, "user.") || strings.HasPrefix(key, "trusted.") ||
		strings.HasPrefix(key, "system.posix_acl_")
}

// file writes header and content. It opens the very file that was looked at.
func (c *creator) file(fd int, h *tar.Header) error {
	f, err := openRetry(func() (int, error) {
		return unix.Open(procPath(fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return err
	}
	defer unix.Close(f)
	if err := c.header(h); err != nil {
		return err
	}
	for left := h.Size; left > 0; {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		n, err := unix.Read(f, c.buf[:min(left, int64(len(c.buf)))])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("it became %d bytes shorter while it was read", left)
		}
		if _, err := c.tw.Write(c.buf[:n]); err != nil {
			return writeErr{fmt.Errorf("writing the archive: %w", err)}
		}
		left -= int64(n)
	}
	return nil
}
