package container

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/amphora-go/amphora/internal/archive"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/rootdir"
	"github.com/moby/sys/user"
)

// Stat describes a file of the container, running or not, as Docker does: a
// symbolic link is not followed unless the path ends with "/" or "/.". A path
// that does not exist is fs.ErrNotExist.
func (c *Container) Stat(ctx context.Context, name string) (*PathStat, error) {
	t, err := c.tree(ctx, false)
	if err != nil {
		return nil, c.fail("stat", err)
	}
	defer t.close()
	l, err := t.locate(name)
	if err != nil {
		return nil, c.fail("stat", err)
	}
	st, err := t.pathStat(l)
	return st, c.failed("stat", err)
}

func (t *tree) pathStat(l *located) (*PathStat, error) {
	st := &PathStat{Name: path.Base(l.asked), Size: l.stat.Size, Mode: l.stat.Mode, ModTime: l.stat.ModTime}
	var err error
	if st.Mode&fs.ModeSymlink != 0 {
		st.LinkTarget, err = t.Resolve(l.real, true)
	}
	return st, err
}

// Archive returns a file or directory of the container as a tar stream, and
// what it is. The first entry has the path's last component as its name; after
// "dir/." it is "./", so that the content alone is meant. A symbolic link is
// archived as such unless the path ends with "/" or "/.".
//
// It works on running and stopped containers, volumes and bind mounts
// included. Of the kernel's file systems (/proc, /sys, /dev) a larger archive
// holds the mount points alone. Whatever the container does meanwhile, nothing
// of outside its root gets into the archive. The caller reads the stream to
// its end, which brings the error if there was one, and closes it.
func (c *Container) Archive(ctx context.Context, name string) (io.ReadCloser, *PathStat, error) {
	t, err := c.tree(ctx, false)
	if err != nil {
		return nil, nil, c.fail("archive", err)
	}
	l, err := t.locate(name)
	var st *PathStat
	if err == nil {
		st, err = t.pathStat(l)
	}
	if err != nil {
		t.close()
		return nil, nil, c.fail("archive", err)
	}
	return c.stream(ctx, t.close, func(ctx context.Context, w io.Writer) error { return t.archive(ctx, w, l, entryName(l.asked)) }), st, nil
}

// entryName is what a copied thing is called in its archive.
func entryName(asked string) string {
	if base := path.Base(asked); base != "/" {
		return base
	}
	return "."
}

// archive writes what was located, under the name as.
func (t *tree) archive(ctx context.Context, w io.Writer, l *located, as string) error {
	var kernel []string
	for _, m := range t.cfg.OCI.Mounts {
		if m.Type != "bind" && (m.Type != "tmpfs" || m.Destination == "/dev" || strings.HasPrefix(m.Destination, "/dev/")) {
			kernel = append(kernel, m.Destination+"/")
		}
	}
	return archive.Create(ctx, w, t.Path(), &archive.CreateOptions{Path: l.real, As: as, Skip: func(name string) bool {
		real := path.Join(l.real, strings.TrimPrefix(name, as))
		for _, k := range kernel {
			if strings.HasPrefix(real, k) && !strings.HasPrefix(l.real+"/", k) {
				return true
			}
		}
		return false
	}})
}

// stream runs write beside its reader. Close ends it and waits.
func (c *Container) stream(ctx context.Context, release func() error, write func(context.Context, io.Writer) error) *tarStream {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	s := &tarStream{PipeReader: r, cancel: cancel, ended: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) }) // the reader may have gone away
	go func() {
		defer close(s.ended)
		defer stop()
		err := errors.Join(write(ctx, &counter{Writer: w, n: &s.size}), release())
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		w.CloseWithError(c.failed("archive", err)) // nil: io.EOF
	}()
	return s
}

type tarStream struct {
	*io.PipeReader
	cancel context.CancelFunc
	ended  chan struct{}
	size   int64 // of what was read, in bytes; after Close
}

// counter counts what is written.
type counter struct {
	io.Writer
	n *int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	*c.n += int64(n)
	return n, err
}

// Close ends the stream. What keeps the container's root open is gone then.
func (s *tarStream) Close() error {
	err := s.PipeReader.Close()
	s.cancel()
	<-s.ended
	return err
}

// ExtractOptions tune Extract.
type ExtractOptions struct {
	// CopyUIDGID gives what is copied to the user and group that the container
	// runs as. Otherwise the archive says whose it is.
	CopyUIDGID bool
	// Overwrite lets a directory be replaced by what is none, and the other
	// way round; this is refused otherwise.
	Overwrite bool
}

// Extract unpacks a tar stream, plain or compressed with gzip, zstd or bzip2,
// into an existing directory of the container, running or not. A last symbolic
// link of the path is followed; links on the way mean what they mean to the
// container, and nothing leads out of it whatever it does meanwhile. What goes
// into a volume is written there. A container that is at rest cannot be
// started until Extract returns.
//
// The directory is not changed by an entry "./". A directory that is missing is
// fs.ErrNotExist; something else in its place, and a directory in the place of
// a file or the other way round, fs.ErrInvalid; a read-only root or mount
// fs.ErrPermission. After an error a part may have been unpacked.
func (c *Container) Extract(ctx context.Context, name string, r io.Reader, opts *ExtractOptions) error {
	if opts == nil {
		opts = &ExtractOptions{}
	}
	t, err := c.tree(ctx, true)
	if err != nil {
		return c.fail("extract", err)
	}
	err = t.extract(ctx, name, r, opts)
	return c.failed("extract", errors.Join(err, t.close()))
}

func (t *tree) extract(ctx context.Context, name string, r io.Reader, opts *ExtractOptions) error {
	asked := keepEnd(path.Join("/", name), name)
	real, err := t.Resolve(asked, true)
	if err != nil {
		return err
	}
	st, err := t.Lstat(real)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.NotExist("%s does not exist in the container", name)
	}
	if err != nil {
		return err
	}
	if !st.Mode.IsDir() {
		return fault.Invalid("%s is no directory of the container: an archive is extracted into one", name)
	}
	return t.unpack(ctx, real, r, opts)
}

// unpack applies an archive below a directory that has no symbolic links.
func (t *tree) unpack(ctx context.Context, below string, r io.Reader, opts *ExtractOptions) error {
	o := &archive.ApplyOptions{Whiteouts: archive.WhiteoutLiteral, Below: "./" + below, KeepKinds: !opts.Overwrite}
	if opts.CopyUIDGID {
		uid, gid, err := t.owner()
		if err != nil {
			return err
		}
		o.MapID = func(int, int) (int, int, error) { return uid, gid, nil }
	}
	plain, _, err := archive.Decompress(r)
	if err != nil {
		return err
	}
	defer plain.Close()
	_, err = archive.Apply(ctx, t.Path(), plain, o)
	if rootdir.IsReadOnly(err) {
		return fault.Kind(fs.ErrPermission, "the container's root, or the mount at or below %s, is read-only: %w", below, err)
	}
	return err
}

// owner is the user that the container runs as, by its own files.
func (t *tree) owner() (uid, gid int, err error) {
	if t.cfg.Customed {
		u := t.cfg.OCI.Process.User
		return int(u.UID), int(u.GID), nil
	}
	const limit = 10 << 20
	passwd, err := archive.ReadInRoot(t.Path(), "/etc/passwd", limit)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, 0, err
	}
	group, err := archive.ReadInRoot(t.Path(), "/etc/group", limit)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, 0, err
	}
	u, err := user.GetExecUser(t.cfg.User, nil, strings.NewReader(string(passwd)), strings.NewReader(string(group)))
	if err != nil {
		return 0, 0, fault.Invalid("user %q: %w", t.cfg.User, fault.Opaque(err))
	}
	return u.Uid, u.Gid, nil
}
