package container

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"path"

	"github.com/amphora-go/amphora/internal/fault"
)

// CopyFS copies a file system, such as an embed.FS, into the directory name of
// the container, running or not, which is made if it is missing. Files that
// exist are overwritten. All belongs to root; modes and times are those that
// fsys tells, but a file can always be read by its owner. As Extract does, it
// stays inside the container.
func (c *Container) CopyFS(ctx context.Context, name string, fsys fs.FS) error {
	t, err := c.tree(ctx, true)
	if err != nil {
		return c.fail("copy", err)
	}
	err = t.copyFS(ctx, c, name, fsys)
	return c.failed("copy", errors.Join(err, t.close()))
}

func (t *tree) copyFS(ctx context.Context, c *Container, name string, fsys fs.FS) error {
	real, err := t.Resolve(path.Join("/", name), true)
	if err != nil {
		return err
	}
	st, err := t.Lstat(real)
	if err == nil && !st.Mode.IsDir() {
		return fault.Invalid("%s is no directory of the container", name)
	}
	missing := err != nil
	r := c.stream(ctx, func() error { return nil }, func(ctx context.Context, w io.Writer) error {
		return tarFS(ctx, w, fsys, path.Join(".", real), missing)
	})
	defer r.Close()
	return t.unpack(ctx, "/", r, &ExtractOptions{})
}

// tarFS writes a file system as a tar stream, below the directory dir, and that
// too if it is missing.
func tarFS(ctx context.Context, w io.Writer, fsys fs.FS, dir string, missing bool) error {
	tw := tar.NewWriter(w)
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || name == "." && !missing {
			return err
		}
		return tarFile(tw, fsys, name, path.Join(dir, name), d)
	})
	if err != nil {
		return err
	}
	return tw.Close()
}

func tarFile(tw *tar.Writer, fsys fs.FS, name, as string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	h := &tar.Header{Format: tar.FormatPAX, Name: as, Mode: int64(info.Mode().Perm()) | 0o400, ModTime: info.ModTime()}
	switch mode := info.Mode(); {
	case mode.IsDir():
		h.Typeflag, h.Name, h.Mode = tar.TypeDir, as+"/", h.Mode|0o700
		return tw.WriteHeader(h)
	case mode&fs.ModeSymlink != 0:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = fs.ReadLink(fsys, name); err != nil {
			return err
		}
		return tw.WriteHeader(h)
	case !mode.IsRegular():
		return fault.Invalid("%s is neither a file, a directory nor a symbolic link", name)
	}
	f, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h.Typeflag, h.Size = tar.TypeReg, info.Size()
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(tw, f)
	return err
}
