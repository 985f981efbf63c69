package archive

import (
	"archive/tar"
	"errors"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
)

// sparseMax bounds the size that a sparse file may claim: reading a hole costs
// time though no data. 1 TiB takes about a minute.
const sparseMax = 1 << 40

// place makes one object below d.
func (a *applier) place(d *dirRef, base string, h *tar.Header, m *Meta) error {
	if err := a.sameKind(d, base, h.Typeflag == tar.TypeDir); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return a.placeDir(d, base, m)
	case tar.TypeSymlink:
		return a.placeSymlink(d, base, h.Linkname, m)
	case tar.TypeLink:
		return a.placeLink(d, base, h.Linkname, m)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return a.placeNode(d, base, h, m)
	}
	return a.placeFile(d, base, h, m)
}

// sameKind refuses to let a directory and what is none replace each other.
func (t *tree) sameKind(d *dirRef, base string, dir bool) error {
	if !t.keepKinds {
		return nil
	}
	st, missing, err := lstat(d.fd, base)
	switch {
	case err != nil || missing || isDir(&st) == dir:
		return err
	case dir:
		return fault.Invalid("cannot overwrite non-directory %.256q with a directory", "/"+join(d.path, base))
	}
	return fault.Invalid("cannot overwrite directory %.256q with a non-directory", "/"+join(d.path, base))
}

// fresh calls create, which fails with EEXIST rather than replace, until it
// found the name free.
func (t *tree) fresh(d *dirRef, base string, create func() error) error {
	err := create()
	if errors.Is(err, unix.EEXIST) {
		if err := t.remove(d, base); err != nil {
			return err
		}
		err = create()
	}
	if err == nil {
		t.mark(d, base)
	}
	return err
}

func (a *applier) placeDir(d *dirRef, base string, m *Meta) error {
	p := join(d.path, base)
	err := a.mkdir(d, base)
	if errors.Is(err, unix.EEXIST) {
		st, _, serr := lstat(d.fd, base)
		if serr != nil {
			return serr
		}
		err = nil
		if !isDir(&st) {
			err = a.replaceByDir(d, base)
		}
		a.describe(p)
	}
	if err == nil {
		a.mark(d, base)
		delete(a.implied, p)
		a.pending[p] = &dirMeta{Meta: *m}
	}
	return err
}

func (a *applier) placeSymlink(d *dirRef, base, target string, m *Meta) error {
	if target == "" || len(target) > pathMax || strings.IndexByte(target, 0) >= 0 {
		return fault.Invalid("symbolic link to a name that is empty, too long or contains a NUL byte")
	}
	if err := a.fresh(d, base, func() error { return unix.Symlinkat(target, d.fd, base) }); err != nil {
		return err
	}
	return a.setMeta(d, base, m)
}

// setMeta is for what has no mode of its own and is reached by name.
func (a *applier) setMeta(d *dirRef, base string, m *Meta) error {
	if !a.ours(d, m) {
		if err := unix.Fchownat(d.fd, base, m.UID, m.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return chownErr(err, m)
		}
	}
	if len(m.Xattrs) > 0 {
		if err := a.setXattrs(procPath(d.fd, base), m.Xattrs); err != nil {
			return err
		}
	}
	ts := m.times()
	return unix.UtimesNanoAt(d.fd, base, ts[:], unix.AT_SYMLINK_NOFOLLOW)
}

func (a *applier) placeNode(d *dirRef, base string, h *tar.Header, m *Meta) error {
	mode := uint32(unix.S_IFIFO)
	if h.Typeflag != tar.TypeFifo {
		// The kernel has 12 bits for the major and 20 for the minor number.
		if h.Devmajor < 0 || h.Devminor < 0 || h.Devmajor >= 1<<12 || h.Devminor >= 1<<20 {
			return fault.Invalid("device number %d:%d is out of range", h.Devmajor, h.Devminor)
		}
		mode = unix.S_IFCHR
		if h.Typeflag == tar.TypeBlock {
			mode = unix.S_IFBLK
		} else if h.Devmajor == 0 && h.Devminor == 0 && a.style != WhiteoutLiteral {
			return a.whiteout(d, base) // so overlayfs reads it
		}
	}
	dev := unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	if mode == unix.S_IFIFO {
		dev = 0
	}
	err := a.fresh(d, base, func() error { return unix.Mknodat(d.fd, base, mode|m.Mode&0o777, int(dev)) })
	if errors.Is(err, unix.EPERM) {
		return fault.Privilege("making a device node needs CAP_MKNOD in the initial user namespace: run as root")
	}
	if err != nil {
		return err
	}
	if err := a.setMeta(d, base, m); err != nil {
		return err
	}
	return chmodAt(d, base, m.Mode, mode)
}

// chmodAt sets the mode of something that is no symbolic link, by a descriptor
// that was looked at: a name could be exchanged by whoever else writes here.
func chmodAt(d *dirRef, base string, mode, format uint32) error {
	fd, err := openRetry(func() (int, error) {
		return unix.Openat(d.fd, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != format {
		return errors.New("it was replaced while the archive was unpacked")
	}
	if st.Mode&permBits == mode {
		return nil
	}
	return unix.Chmod(procPath(fd), mode)
}

func (a *applier) placeFile(d *dirRef, base string, h *tar.Header, m *Meta) error {
	if h.Size < 0 {
		return fault.Invalid("negative size %d", h.Size)
	}
	sparse := isSparse(h)
	if sparse && h.Size > sparseMax {
		return fault.Invalid("sparse file of %d bytes; the limit is %d", h.Size, int64(sparseMax))
	}
	if left := a.opts.MaxBytes - a.count.Bytes; a.opts.MaxBytes > 0 && h.Size > left {
		return fault.Invalid("%d bytes exceed the limit of %d for the content of this archive", h.Size, a.opts.MaxBytes)
	}
	a.count.Bytes += h.Size
	var fd int
	err := a.fresh(d, base, func() (err error) {
		fd, err = openRetry(func() (int, error) {
			return unix.Openat(d.fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, m.Mode&0o777)
		})
		return err
	})
	if err != nil {
		return err
	}
	if sparse {
		err = a.copySparse(fd, h.Size)
	} else {
		err = a.copy(fd, h.Size)
	}
	if err == nil {
		err = a.setFileMeta(d, fd, m)
	}
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	return err
}

// setFileMeta sets owner, attributes, mode and times, in this order: chown
// clears capabilities and setuid bits.
func (t *tree) setFileMeta(d *dirRef, fd int, m *Meta) error {
	if !t.ours(d, m) {
		if err := chownFd(fd, m); err != nil {
			return err
		}
	}
	if len(m.Xattrs) > 0 {
		if err := t.setXattrs(procPath(fd), m.Xattrs); err != nil {
			return err
		}
	}
	if m.Mode&0o7000 != 0 || m.Mode&t.umask != 0 {
		if err := unix.Fchmod(fd, m.Mode); err != nil {
			return err
		}
	}
	ts := m.times()
	return futimens(fd, &ts)
}

// read fills b from the current entry.
func (a *applier) read(b []byte) error {
	if err := a.ctx.Err(); err != nil {
		return err
	}
	_, err := io.ReadFull(a.tr, b)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return a.streamErr(err)
	}
	return nil
}

func (a *applier) copy(fd int, size int64) error {
	for size > 0 {
		b := a.buf[:min(size, copySize)]
		if err := a.read(b); err != nil {
			return err
		}
		if err := writeAll(fd, b); err != nil {
			return err
		}
		size -= int64(len(b))
	}
	return nil
}

func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// copySparse writes what is not zero. The reader gives holes as zeros, so
// that no claimed size takes space before data for it arrived.
func (a *applier) copySparse(fd int, size int64) error {
	if err := unix.Ftruncate(fd, size); err != nil {
		return err
	}
	for off := int64(0); off < size; {
		b := a.buf[:min(size-off, copySize)]
		if err := a.read(b); err != nil {
			return err
		}
		if err := writeBlocks(fd, b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

// writeBlocks writes the runs of 4 KiB blocks that hold data.
func writeBlocks(fd int, b []byte, off int64) error {
	const block = 4096
	for len(b) > 0 {
		n := 0
		for n < len(b) && !allZero(b[n:min(n+block, len(b))]) {
			n = min(n+block, len(b))
		}
		if err := pwriteAll(fd, b[:n], off); err != nil {
			return err
		}
		for n < len(b) && allZero(b[n:min(n+block, len(b))]) {
			n = min(n+block, len(b))
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

var zeros [4096]byte

func allZero(b []byte) bool { return string(b) == string(zeros[:len(b)]) }
