package local

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/build/tree"
	"github.com/amphora-go/amphora/internal/fault"
)

// apart is the size from which a file is worth a goroutine of its own.
const apart = 32 << 10

// content opens a regular file and has its digest computed.
func (l *listing) content(k *entry) error {
	name := join(l.rel, k.name)
	fd, err := unix.Openat(l.fd, k.name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	switch {
	case err == unix.ENOENT:
		k.gone = true
		return nil
	case err == unix.ELOOP || err == unix.ENXIO:
		return errAgain
	case err == unix.EACCES:
		return fault.Privilege("%q of the build context may not be read: name it in .dockerignore, or build as its owner", name)
	case err != nil:
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	if k.stamp.size < apart {
		return l.s.hash(k, f)
	}
	return l.s.spread(func() error { return l.s.hash(k, f) })
}

// hash takes over f. What k has in the end is a stamp, and the attributes and
// the content that the file had with it: it was the same before and after they
// were read.
func (s *scanner) hash(k *entry, f *os.File) error {
	defer f.Close()
	for range tries {
		if err := describe(k, f); err != nil {
			return err
		}
		before := k.stamp
		list, err := tree.AttributesOf(int(f.Fd()))
		if err != nil {
			return &os.PathError{Op: "read", Path: f.Name(), Err: err}
		}
		if err := s.sum(k, f); err != nil {
			return err
		}
		if err := describe(k, f); err != nil {
			return err
		}
		if k.stamp == before {
			k.xattrs = pack(list)
			return nil
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	return fmt.Errorf("%q changes while the build context is read: name it in .dockerignore, or build when nothing writes there", f.Name())
}

// describe looks at f, which need not be the file that k was made of.
func describe(k *entry, f *os.File) error {
	if _, err := statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, k); err != nil {
		return &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	if k.kind() != unix.S_IFREG {
		return errAgain
	}
	return nil
}

var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

func (s *scanner) sum(k *entry, f *os.File) error {
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	h := sha256.New()
	for {
		if err := s.ctx.Err(); err != nil {
			return context.Cause(s.ctx)
		}
		n, err := f.Read(buf[:])
		h.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			h.Sum(k.sum[:0])
			return nil
		}
		if err != nil {
			return err
		}
	}
}
