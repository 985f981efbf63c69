package local

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
)

// copier copies what belongs to a context.
type copier struct {
	s      scanner // opens below the context's directory
	dir    string  // where to
	rooted bool    // all gets owner 0:0
	names  map[file]string
}

func (m *Manifest) copier(dir string, rooted bool) (*copier, error) {
	fd, err := unix.Open(m.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fault.Opaque(&os.PathError{Op: "open build context", Path: m.path, Err: err})
	}
	return &copier{s: scanner{root: fd}, dir: dir, rooted: rooted, names: map[file]string{}}, nil
}

func (c *copier) close() { unix.Close(c.s.root) }

// kids copies what is in the directory e, which is at rel of both trees.
func (c *copier) kids(e *entry, rel string) error {
	for _, k := range e.kids {
		if err := c.entry(k, filepath.Join(rel, k.name)); err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) entry(e *entry, rel string) error {
	to := filepath.Join(c.dir, rel)
	if e.linked {
		at := file{e.stamp.dev, e.stamp.ino}
		if first, ok := c.names[at]; ok {
			return os.Link(first, to)
		}
		c.names[at] = to
	}
	var err error
	switch e.kind() {
	case unix.S_IFDIR:
		if err = os.Mkdir(to, 0o700); err == nil {
			err = c.kids(e, rel)
		}
	case unix.S_IFREG:
		err = c.content(rel, to)
	case unix.S_IFLNK:
		err = os.Symlink(e.link, to)
	default:
		if err = unix.Mknod(to, e.mode()&unix.S_IFMT|0o600, int(e.rdev)); err != nil {
			err = &os.PathError{Op: "mknod", Path: rel, Err: err}
		}
	}
	if err != nil {
		return err
	}
	return c.attributes(e, to)
}

func (c *copier) content(rel, to string) error {
	from, err := c.open(rel)
	if err != nil {
		return err
	}
	defer from.Close()
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, from); err != nil {
		return fmt.Errorf("copy %q of the build context: %w", rel, err)
	}
	return f.Close()
}

// open opens a regular file of the context, without following anything.
func (c *copier) open(rel string) (*os.File, error) {
	dir, err := c.s.open(filepath.Dir(rel))
	if err == nil {
		defer unix.Close(dir)
		var fd int
		fd, err = unix.Openat(dir, filepath.Base(rel), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err == nil {
			return os.NewFile(uintptr(fd), rel), nil
		}
	}
	return nil, fmt.Errorf("the build context changed after it was read: %w", &os.PathError{Op: "open", Path: rel, Err: err})
}

// attributes come in an order in which none undoes another: chown takes away
// capabilities and setuid bits, chmod changes access lists.
func (c *copier) attributes(e *entry, to string) error {
	uid, gid := int(e.uid), int(e.gid)
	if c.rooted {
		uid, gid = 0, 0
	}
	if err := os.Lchown(to, uid, gid); err != nil {
		return err
	}
	if e.kind() != unix.S_IFLNK {
		if err := unix.Chmod(to, e.stamp.mode&0o7777); err != nil {
			return &os.PathError{Op: "chmod", Path: to, Err: err}
		}
	}
	for _, a := range unpack(e.xattrs) {
		err := unix.Lsetxattr(to, a.Key, []byte(a.Value), 0)
		if err != nil && err != unix.EOPNOTSUPP && err != unix.EPERM { // as copies treat it: it gets lost
			return &os.PathError{Op: "setxattr " + a.Key, Path: to, Err: err}
		}
	}
	t := unix.NsecToTimespec(e.stamp.mtime)
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, to, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "utimes", Path: to, Err: err}
	}
	return nil
}
