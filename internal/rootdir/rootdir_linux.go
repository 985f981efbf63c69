// Package rootdir opens files below a directory that is a container's root:
// every link is resolved inside it.
package rootdir

import (
	"errors"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Dir is an open root. It is safe for concurrent use.
type Dir struct{ f *os.File }

// New takes over f, a descriptor of the root directory.
func New(f *os.File) *Dir { return &Dir{f} }

// Open opens a file for reading, without blocking on what is no file.
func (d *Dir) Open(name string) (*os.File, error) {
	how := &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(int(d.f.Fd()), name, how)
		runtime.KeepAlive(d.f)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), name), nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN): // EAGAIN: something was renamed meanwhile
		default:
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
	}
}

// Close closes the root. It is idempotent.
func (d *Dir) Close() error {
	if err := d.f.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
