package local

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

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
		return trouble("open", name, err)
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
		if err := s.settle(k, f); err != nil {
			return err
		}
		if k.stamp != before {
			continue
		}
		list, err := tree.AttributesOf(int(f.Fd()))
		if err != nil {
			return trouble("read", f.Name(), err)
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
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
	}
	return fmt.Errorf("%q changes while the build context is read: name it in .dockerignore, or build when nothing writes there", f.Name())
}

// settle waits until a later change of f will have a later time.
func (s *scanner) settle(k *entry, f *os.File) error {
	left := time.Duration(k.stamp.ctime-time.Now().UnixNano()) + k.stamp.step()
	if left <= 0 || left > 2*k.stamp.step() { // that far in the future: another machine's clock
		return nil
	}
	wait := time.NewTimer(left)
	defer wait.Stop()
	select {
	case <-wait.C:
		return describe(k, f)
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

// describe looks at f, which need not be the file that k was made of.
func describe(k *entry, f *os.File) error {
	if _, err := statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, k); err != nil {
		return trouble("stat", f.Name(), err)
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
