package tree

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// node is a file with all that counts of it.
type node struct {
	name     string
	mode     uint32 // with the kind
	uid, gid uint32
	rdev     uint64
	ino      inode
	linked   bool // there may be other names of it
	link     string
	xattrs   []Attr // by key
	opaque   bool
	content  [sha256.Size]byte
	kids     []*node // by name
}

type inode struct{ dev, ino uint64 }

// reader reads a tree, with as many files at once as there are processors.
type reader struct {
	ctx   context.Context
	group *errgroup.Group
	layer bool // opaque directories count
}

// read takes over fd, which may be one that only names a file.
func read(ctx context.Context, fd int, layer bool) (*node, error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	r := &reader{ctx: ctx, group: group, layer: layer}
	n, err := r.top(fd)
	if err2 := group.Wait(); err2 != nil { // the first error; others may only say that it ended them
		err = err2
	}
	return n, err
}

func (r *reader) top(fd int) (*node, error) {
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	n := newNode("", &st)
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && kind != unix.S_IFREG {
		return n, r.attributes(n, procPath(fd), unix.Listxattr, unix.Getxattr)
	}
	again, err := open(unix.AT_FDCWD, procPath(fd), unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	if kind == unix.S_IFREG {
		return n, r.file(n, again, st.Size)
	}
	return n, r.dir(n, again)
}

func newNode(name string, st *unix.Stat_t) *node {
	n := &node{name: name, mode: st.Mode, uid: st.Uid, gid: st.Gid, ino: inode{uint64(st.Dev), st.Ino}}
	kind := st.Mode & unix.S_IFMT
	n.linked = kind != unix.S_IFDIR && st.Nlink > 1
	if kind == unix.S_IFCHR || kind == unix.S_IFBLK {
		n.rdev = uint64(st.Rdev)
	}
	return n
}

// dir takes over fd.
func (r *reader) dir(n *node, fd int) error {
	f := os.NewFile(uintptr(fd), n.name)
	defer f.Close()
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if err := r.attributes(n, procPath(fd), unix.Listxattr, unix.Getxattr); err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names) // bytes: the same everywhere
	n.kids = make([]*node, len(names))
	for i, name := range names {
		if n.kids[i], err = r.entry(fd, name); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	return nil
}

func (r *reader) entry(dir int, name string) (*node, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, err
	}
	n := newNode(name, &st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		fd, err := open(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
		if err != nil {
			return nil, err
		}
		return n, r.spread(func() error { return r.dir(n, fd) })
	case unix.S_IFREG:
		fd, err := open(dir, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW)
		if err != nil {
			return nil, err
		}
		if st.Size < apart {
			return n, r.file(n, fd, st.Size)
		}
		return n, r.spread(func() error { return r.file(n, fd, st.Size) })
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		size, err := unix.Readlinkat(dir, name, buf)
		if err != nil {
			return nil, err
		}
		n.link = string(buf[:size])
	}
	return n, r.attributes(n, procPath(dir)+"/"+name, unix.Llistxattr, unix.Lgetxattr)
}

// apart is the size from which a file is worth a goroutine of its own.
const apart = 64 << 10

// spread runs f on another processor if one is free. With none it runs f
// itself, so a directory that waits for nothing holds no place.
func (r *reader) spread(f func() error) error {
	if r.group.TryGo(f) {
		return nil
	}
	return f()
}

// file takes over fd.
func (r *reader) file(n *node, fd int, size int64) error {
	f := os.NewFile(uintptr(fd), n.name)
	defer f.Close()
	if err := r.attributes(n, procPath(fd), unix.Listxattr, unix.Getxattr); err != nil {
		return err
	}
	h := sha256.New()
	buf := make([]byte, min(max(size, 512), 256<<10))
	var done int64
	for {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		m, err := f.Read(buf)
		h.Write(buf[:m])
		done += int64(m)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if done != size {
		return fmt.Errorf("%q changed while it was read: %d bytes instead of %d", n.name, done, size)
	}
	h.Sum(n.content[:0])
	return nil
}

// attributes reads those that belong to the file.
func (r *reader) attributes(n *node, path string, list lister, get getter) (err error) {
	n.xattrs, n.opaque, err = attributes(path, list, get)
	n.opaque = n.opaque && r.layer
	return err
}

func open(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
