package file

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	rootpath "github.com/containerd/continuity/fs"
	fscopy "github.com/tonistiigi/fsutil/copy"
	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
)

func (w *work) mkdir(a *op.Mkdir) error {
	u, err := w.owner(a.Owner)
	if err != nil {
		return err
	}
	mode, when := fs.FileMode(a.Mode)&0o777, w.when(a.Time)
	return w.inTree("mkdir", func() error {
		p, err := rootpath.RootPath("/", a.Path)
		if err != nil {
			return err
		}
		if a.Parents {
			_, err := fscopy.MkdirAll(p, mode, chowner(u), when)
			return err
		}
		if err := os.Mkdir(p, mode); err != nil {
			if errors.Is(err, fs.ErrExist) {
				return nil // whatever it is, as in BuildKit
			}
			return err
		}
		return dress(p, u, when)
	})
}

// dress sets owner and times of something new.
func dress(p string, u *fscopy.User, when *time.Time) error {
	if err := fscopy.Chown(p, nil, chowner(u)); err != nil {
		return err
	}
	return fscopy.Utimes(p, when)
}

func (w *work) mkfile(a *op.Mkfile) error {
	u, err := w.owner(a.Owner)
	if err != nil {
		return err
	}
	return w.inTree("mkfile", func() error {
		p, err := rootpath.RootPath("/", path.Join("/", a.Path))
		if err != nil {
			return err
		}
		if p == "/" {
			return &fs.PathError{Op: "mkfile", Path: "/", Err: unix.EISDIR}
		}
		return replace(p, a.Data, fs.FileMode(a.Mode)&0o777, u, w.when(a.Time))
	})
}

// replace puts a new file in the place of p. What is there is never opened: a
// device could be one of the host's.
func replace(p string, data []byte, mode fs.FileMode, u *fscopy.User, when *time.Time) (err error) {
	f, err := os.CreateTemp(filepath.Dir(p), ".new-")
	if err != nil {
		return rename(err, p)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
			err = rename(err, p)
		}
	}()
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		return err
	}
	if err := dress(f.Name(), u, when); err != nil {
		return err
	}
	return os.Rename(f.Name(), p)
}

// rename has an error speak of p instead of the file that was to become it.
func rename(err error, p string) error {
	var link *os.LinkError
	if errors.As(err, &link) {
		return &fs.PathError{Op: link.Op, Path: p, Err: link.Err}
	}
	var file *fs.PathError
	if errors.As(err, &file) {
		return &fs.PathError{Op: file.Op, Path: p, Err: file.Err}
	}
	return err
}

func (w *work) symlink(a *op.Symlink) error {
	u, err := w.owner(a.Owner)
	if err != nil {
		return err
	}
	return w.inTree("symlink", func() error {
		p, err := rootpath.RootPath("/", path.Join("/", a.Path))
		if err != nil {
			return err
		}
		if err := os.Symlink(a.Target, p); err != nil {
			return rename(err, p)
		}
		return dress(p, u, w.when(a.Time))
	})
}

func (w *work) remove(a *op.Remove) error {
	return w.inTree("remove", func() error {
		names := []string{a.Path}
		if a.Wildcards {
			var err error
			if names, err = fscopy.ResolveWildcards("/", cleanPath(a.Path), false); err != nil {
				return err
			}
		}
		for _, name := range names {
			if err := removePath(path.Join("/", name), a); err != nil {
				return err
			}
		}
		return nil
	})
}

func removePath(name string, a *op.Remove) error {
	dir, base := path.Split(name)
	if base == "" {
		return fault.Invalid("the root of an image cannot be removed")
	}
	dir, err := rootpath.RootPath("/", dir)
	if err != nil {
		return err
	}
	p := path.Join(dir, base)
	if _, err := os.Lstat(p); errors.Is(err, fs.ErrNotExist) && !a.AllowMissing {
		return notFound(a.Path)
	}
	return os.RemoveAll(p)
}

// inTree runs f in the jail, with the tree as both sides of it. What fails
// besides the wish itself is no kind of error that callers should tell apart.
func (w *work) inTree(what string, f func() error) error {
	return explain(what, w.jail.do(w.tree, f))
}

// wish is an error of what was asked for, such as a missing source.
type wish struct{ error }

func (e wish) Unwrap() error { return e.error }

func notFound(name string) error {
	return wish{fault.NotExist("%q: not found", path.Join("/", name))}
}

// explain makes an error of the file system one that tells no kind, unless it
// is about the wish. Paths get their leading "/": the jail reads from its
// working directory.
func explain(what string, err error) error {
	var asked wish
	if err == nil || errors.As(err, &asked) || errors.Is(err, fs.ErrInvalid) {
		return err
	}
	var file *fs.PathError
	if errors.As(err, &file) && !strings.HasPrefix(file.Path, "/") {
		file.Path = path.Join("/", file.Path)
	}
	return fault.Opaque(err)
}
