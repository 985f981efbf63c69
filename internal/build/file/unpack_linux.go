package file

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	rootpath "github.com/containerd/continuity/fs"
	fscopy "github.com/tonistiigi/fsutil/copy"
	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/archive"
	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/build/untar"
	"github.com/amphora-go/amphora/internal/fault"
)

// unpack unpacks the source m below to if it is an archive, as ADD does. What
// is none is for the caller to copy.
func (w *work) unpack(a *op.Copy, u *fscopy.User, run func(*os.File, func() error) error, source *os.File, m, to string) (bool, error) {
	var file *os.File
	err := run(source, func() (err error) {
		file, err = openRegular(m)
		return err
	})
	if err != nil {
		return false, explain("unpack", err)
	}
	if file == nil {
		return false, nil
	}
	defer file.Close()
	if is, err := isArchive(w.ctx, file); err != nil || !is {
		return false, err
	}
	var dest *os.File
	err = run(source, func() error {
		p, err := rootpath.RootPath("/", to)
		if err != nil {
			return err
		}
		if _, err := fscopy.MkdirAll(p, 0o755, chowner(u), w.when(a.Time)); err != nil {
			return err
		}
		dest, err = os.Open(p)
		return err
	})
	if err != nil {
		return false, explain("unpack", err)
	}
	defer dest.Close()
	return true, apply(w.ctx, file, dest, u)
}

// apply unpacks into dest, which is the root for links of the archive, and for
// those that it meets.
func apply(ctx context.Context, file, dest *os.File, u *fscopy.User) error {
	all, err := content(file)
	if err != nil {
		return err
	}
	plain, err := untar.Plain(ctx, all)
	if err != nil {
		return err
	}
	defer plain.Close()
	opts := &archive.ApplyOptions{Whiteouts: archive.WhiteoutLiteral, RootImplied: true}
	if u != nil {
		opts.MapID = func(int, int) (int, int, error) { return u.UID, u.GID, nil }
	}
	_, err = archive.Apply(ctx, procPath(dest), plain, opts)
	return err
}

// openRegular opens a regular file of the tree that is read; nil: it is none,
// or not there.
func openRegular(name string) (*os.File, error) {
	p, err := rootpath.RootPath(".", name)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	fi, err := os.Lstat(p)
	if err != nil || !fi.Mode().IsRegular() {
		return nil, nil
	}
	f, err := os.OpenFile(p, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return f, err
}

// isArchive says whether a file begins with an entry of a tar, however it is
// compressed.
func isArchive(ctx context.Context, f *os.File) (bool, error) {
	all, err := content(f)
	if err != nil {
		return false, err
	}
	plain, err := untar.Plain(ctx, all)
	if err != nil {
		if errors.Is(err, untar.ErrNoProgram) {
			return false, err
		}
		return false, nil
	}
	defer plain.Close()
	_, err = tar.NewReader(plain).Next()
	return err == nil || errors.Is(err, tar.ErrInsecurePath), nil
}

// content reads the whole file at places of its own: a decompression that was
// given up may still be reading.
func content(f *os.File) (io.Reader, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, fault.Opaque(err)
	}
	return io.NewSectionReader(f, 0, fi.Size()), nil
}
