package container

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/amphora-go/amphora/internal/archive"
	"github.com/amphora-go/amphora/internal/fault"
)

// CopyOptions tune CopyTo and CopyFrom.
type CopyOptions struct {
	// Archive keeps owners on the way out of a container, and gives what goes
	// in to the user that it runs as, as docker cp -a does. Otherwise what goes
	// in keeps its owner's numbers, and what comes out belongs to this process.
	Archive bool
	// FollowLink copies what a symbolic link leads to, not the link.
	FollowLink bool
}

// CopyTo copies a file or directory of this machine into the container, by the
// rules of docker cp:
//
//	src      dst                    result
//	file     missing                a file of that name; its directory must exist
//	file     missing, ends with /   an error
//	file     file                   overwritten
//	file     directory              into it, under the source's name
//	dir      missing                a directory of that name with src's content
//	dir      file                   an error
//	dir      directory              into it, under the source's name
//	dir/.    directory              src's content into it
//
// A symbolic link at dst is followed. It returns the size of the tar stream
// that did it, in bytes.
func (c *Container) CopyTo(ctx context.Context, src, dst string, opts *CopyOptions) (int64, error) {
	if opts == nil {
		opts = &CopyOptions{}
	}
	n, err := c.copyTo(ctx, src, dst, opts)
	return n, c.failed("copy", err)
}

func (c *Container) copyTo(ctx context.Context, src, dst string, opts *CopyOptions) (int64, error) {
	from, err := localSource(src, opts.FollowLink)
	if err != nil {
		return 0, err
	}
	t, err := c.tree(ctx, true)
	if err != nil {
		return 0, err
	}
	defer t.close()
	to, err := t.destination(dst)
	if err != nil {
		return 0, err
	}
	dir, as, err := place(from, to)
	if err != nil {
		return 0, err
	}
	r := c.stream(ctx, func() error { return nil }, func(ctx context.Context, w io.Writer) error {
		return archive.Create(ctx, w, filepath.Dir(from.real), &archive.CreateOptions{Path: filepath.Base(from.real), As: as})
	})
	err = t.extract(ctx, dir, r, &ExtractOptions{CopyUIDGID: opts.Archive})
	r.Close() // what reads ahead may still be at it
	return r.size, err
}

// end is one end of a copy.
type end struct {
	asked  string // as given, absolute, with "/" or "/." at its end
	real   string // of a local source: without symbolic links, but for a last one that is copied itself
	exists bool
	dir    bool
}

// asserts says that a path must be a directory.
func asserts(p string) bool { return strings.HasSuffix(p, "/") || strings.HasSuffix(p, "/.") }

// place says into which directory a copy is extracted, and under what name.
func place(from, to *end) (dir, as string, err error) {
	clean := path.Clean(to.asked)
	switch {
	case to.exists && to.dir:
		return to.asked, entryName(from.asked), nil
	case to.exists && from.dir:
		return "", "", fault.Invalid("cannot copy the directory %s to %s, which is none", from.asked, to.asked)
	case !to.exists && !from.dir && asserts(to.asked):
		return "", "", fault.Invalid("the directory %s does not exist: a file can be copied to a new name, not into a new directory", to.asked)
	}
	return path.Dir(clean), path.Base(clean), nil
}

// destination looks at where something is copied to.
func (t *tree) destination(name string) (*end, error) {
	to := &end{asked: keepEnd(path.Join("/", name), name)}
	real, err := t.Resolve(to.asked, true)
	if err != nil {
		return nil, err
	}
	st, err := t.Lstat(real)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if real != path.Clean(to.asked) && !asserts(to.asked) {
			to.asked = real // a link to what does not exist yet
		}
		return to, nil
	case err != nil:
		return nil, err
	case !st.Mode.IsDir() && !st.Mode.IsRegular():
		return nil, fault.Invalid("the destination %s must be a directory or a regular file", name)
	}
	to.exists, to.dir = true, st.Mode.IsDir()
	if !to.dir {
		if asserts(to.asked) {
			return nil, fault.Invalid("%s is not a directory of the container", name)
		}
		to.asked = real
	}
	return to, nil
}

// localSource finds what is to be copied from this machine.
func localSource(name string, follow bool) (*end, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	from := &end{asked: keepEnd(abs, name), exists: true}
	if follow || asserts(from.asked) {
		from.real, err = filepath.EvalSymlinks(abs)
	} else if from.real, err = filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
		from.real = filepath.Join(from.real, filepath.Base(abs))
	}
	var st fs.FileInfo
	if err == nil {
		st, err = os.Lstat(from.real)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.NotExist("%s does not exist on this machine", name)
	}
	if err != nil {
		return nil, err
	}
	if from.dir = st.IsDir(); !from.dir && asserts(from.asked) {
		return nil, fault.Invalid("%s is not a directory", name)
	}
	return from, nil
}

// CopyFrom copies a file or directory of the container to this machine, by the
// rules of CopyTo the other way round. What the container does meanwhile, and
// what it calls its files, cannot make it write anywhere else than to dst.
func (c *Container) CopyFrom(ctx context.Context, src, dst string, opts *CopyOptions) (int64, error) {
	if opts == nil {
		opts = &CopyOptions{}
	}
	n, err := c.copyFrom(ctx, src, dst, opts)
	return n, c.failed("copy", err)
}

func (c *Container) copyFrom(ctx context.Context, src, dst string, opts *CopyOptions) (int64, error) {
	t, err := c.tree(ctx, false)
	if err != nil {
		return 0, err
	}
	defer t.close()
	l, err := t.locate(src)
	if err == nil && opts.FollowLink && l.stat.Mode&fs.ModeSymlink != 0 {
		if l.real, err = t.Resolve(l.real, true); err == nil {
			l.stat, err = t.Lstat(l.real)
		}
	}
	if err != nil {
		return 0, err
	}
	to, err := localDestination(dst)
	if err != nil {
		return 0, err
	}
	dir, as, err := place(&end{asked: l.asked, dir: l.stat.Mode.IsDir()}, to)
	if err != nil {
		return 0, err
	}
	o := &archive.ApplyOptions{Whiteouts: archive.WhiteoutLiteral, Below: ".", KeepKinds: true}
	if !opts.Archive {
		o.MapID = func(int, int) (int, int, error) { return os.Geteuid(), os.Getegid(), nil }
	}
	r := c.stream(ctx, func() error { return nil }, func(ctx context.Context, w io.Writer) error { return t.archive(ctx, w, l, as) })
	_, err = archive.Apply(ctx, filepath.FromSlash(dir), r, o)
	r.Close()
	return r.size, err
}

// localDestination looks at where something is copied to. Its directory must
// exist.
func localDestination(name string) (*end, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	to := &end{asked: keepEnd(abs, name)}
	for range 10 { // as many links as Docker follows
		st, err := os.Lstat(abs)
		if err != nil || st.Mode()&fs.ModeSymlink == 0 {
			break
		}
		target, err := os.Readlink(abs)
		if err != nil {
			return nil, err
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(abs), target)
		}
		abs = target
		to.asked = keepEnd(abs, to.asked)
	}
	st, err := os.Stat(abs)
	if err == nil {
		to.exists, to.dir = true, st.IsDir()
		if !to.dir && asserts(to.asked) {
			return nil, fault.Invalid("%s is not a directory", name)
		}
		return to, nil
	}
	if parent, err := os.Stat(filepath.Dir(abs)); err != nil || !parent.IsDir() {
		return nil, fault.Invalid("the directory %s does not exist on this machine", filepath.Dir(abs))
	}
	return to, nil
}
