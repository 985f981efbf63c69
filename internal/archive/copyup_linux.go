package archive

import (
	"errors"
	"path"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
)

// copyUp copies the lower object at p to the same place of the tree and
// returns its directory there.
func (t *tree) copyUp(p string, n *node) (*dirRef, error) {
	if n.kind == kindDir {
		return nil, fault.Invalid("hard link to the directory %.256q", p)
	}
	d, err := t.dir(path.Dir(p))
	if err != nil {
		return nil, err
	}
	t.upped[p] = true
	return d, t.copyLower(p, n, d, path.Base(p))
}

// copyLower copies the lower object at p to base in d, which is free.
func (t *tree) copyLower(p string, n *node, d *dirRef, base string) error {
	m, err := t.lowers.meta(p, n)
	if err != nil {
		return err
	}
	if err := t.touch(d); err != nil {
		return err
	}
	format := n.st.Mode & unix.S_IFMT
	switch format {
	case unix.S_IFREG:
		return t.copyFile(p, n, d, base, &m.Meta)
	case unix.S_IFLNK:
		err = unix.Symlinkat(n.target, d.fd, base)
	default:
		err = unix.Mknodat(d.fd, base, n.st.Mode, int(n.st.Rdev))
	}
	if err != nil {
		return err
	}
	return t.linkMeta(d, base, &m.Meta)
}

func (t *tree) copyFile(p string, n *node, d *dirRef, base string, m *Meta) error {
	src, err := openat2(t.lowers.roots[n.layers[0]], p, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW,
		unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return pathErr("open in a lower layer", p, err)
	}
	defer unix.Close(src)
	dst, err := openRetry(func() (int, error) {
		return unix.Openat(d.fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, m.Mode&0o777)
	})
	if err != nil {
		return err
	}
	if err = cloneFile(dst, src, n.st.Size); err == nil {
		err = t.setFileMeta(d, dst, m)
	}
	if cerr := unix.Close(dst); err == nil {
		err = cerr
	}
	return err
}

// cloneFile copies content: shared blocks where the file system can, inside
// the kernel where it can, else through memory.
func cloneFile(dst, src int, size int64) error {
	if unix.IoctlFileClone(dst, src) == nil {
		return nil
	}
	for size > 0 {
		n, err := unix.CopyFileRange(src, nil, dst, nil, int(min(size, 1<<30)), 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == nil && n > 0:
			size -= int64(n)
			continue
		case err == nil, errors.Is(err, unix.EXDEV), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS),
			errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPERM):
			return copyRest(dst, src)
		}
		return err
	}
	return nil
}

// copyRest goes on at the positions of both descriptors.
func copyRest(dst, src int) error {
	buf := make([]byte, chunkSize)
	for {
		n, err := unix.Read(src, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return err
		}
		if err := writeAll(dst, buf[:n]); err != nil {
			return err
		}
	}
}
