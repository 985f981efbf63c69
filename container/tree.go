package container

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/amphora-go/amphora/internal/atrest"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/rootdir"
	"github.com/amphora-go/amphora/internal/shim"
)

// tree is a container's root with its volumes, for copying. Of a running
// container it is what the container sees; its mounts stay together until
// close, whatever becomes of the container.
type tree struct {
	*rootdir.Dir
	cfg     *record.Config
	closers []io.Closer
}

func (t *tree) close() error {
	var errs error
	for _, c := range t.closers {
		errs = errors.Join(errs, c.Close())
	}
	return errs
}

// releaser closes a lock.
type releaser struct{ l *flock.Lock }

func (r releaser) Close() error { return r.l.Release() }

// tree opens the container's tree. To write to one at rest keeps others from
// starting the container meanwhile.
func (c *Container) tree(ctx context.Context, write bool) (*tree, error) {
	for {
		var root, hold *os.File
		err := c.ask(ctx, func(client *shim.Client) (e error) { root, hold, e = client.Tree(ctx); return e })
		t := new(tree)
		switch {
		case err == nil:
			t.Dir = rootdir.New(root)
			t.closers = []io.Closer{root, hold}
		case !errors.Is(err, ErrNotRunning):
			return nil, err
		case write:
			alive, err := c.takeAlive(ctx)
			if errors.Is(err, ErrRunning) || errors.Is(err, ErrPaused) {
				if err := pause(ctx); err != nil {
					return nil, err
				}
				continue // it was started meanwhile, or waits to be started again
			}
			if err != nil {
				return nil, err
			}
			t.closers = []io.Closer{releaser{alive}}
			fallthrough
		default:
			if err := t.atRest(ctx, c, write); err != nil {
				return nil, errors.Join(err, t.close())
			}
		}
		if t.cfg, err = c.m.root.LoadConfig(c.id); err != nil {
			return nil, errors.Join(err, t.close())
		}
		return t, nil
	}
}

func (t *tree) atRest(ctx context.Context, c *Container, write bool) error {
	rec, err := c.m.root.Load(c.id)
	if err != nil {
		return err
	}
	if err := c.image(ctx, rec); err != nil {
		return err
	}
	r, err := atrest.Open(ctx, c.m.root, rec, &atrest.Options{Write: write})
	if err != nil {
		return err
	}
	t.Dir = rootdir.New(r.Dir)
	t.closers = append([]io.Closer{r}, t.closers...)
	return nil
}

// located is a path of a container, looked up as docker cp does.
type located struct {
	asked string // absolute, with "/" or "/." at its end if it was given so
	real  string // without symbolic links, but for a last one
	stat  *rootdir.Stat
}

// locate finds what a path means. A last symbolic link is followed if the
// path says that it is a directory.
func (t *tree) locate(name string) (*located, error) {
	l := &located{asked: keepEnd(path.Join("/", name), name)}
	dir := strings.HasSuffix(l.asked, "/") || strings.HasSuffix(l.asked, "/.")
	var err error
	if l.real, err = t.Resolve(l.asked, dir); err == nil {
		l.stat, err = t.Lstat(l.real)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.NotExist("%s does not exist in the container", name)
	case err != nil:
		return nil, &fs.PathError{Op: "stat", Path: name, Err: cause(err)}
	case dir && !l.stat.Mode.IsDir():
		return nil, &fs.PathError{Op: "stat", Path: name, Err: syscall.ENOTDIR}
	}
	return l, nil
}

// cause is the error below one that names a path which the caller never gave.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// keepEnd puts the "/" or "/." back that cleaning took from a path.
func keepEnd(clean, given string) string {
	last := path.Base(given)
	switch {
	case (given == "." || strings.HasSuffix(given, "/.")) && !strings.HasSuffix(clean, "."):
		if clean != "/" {
			clean += "/"
		}
		return clean + "."
	case strings.HasSuffix(given, "/") && last != "/" && !strings.HasSuffix(clean, "/"):
		return clean + "/"
	}
	return clean
}

// PathStat describes a file of a container.
type PathStat struct {
	Name       string      `json:"name"` // last component of the path that was asked for
	Size       int64       `json:"size"`
	Mode       fs.FileMode `json:"mode"`
	ModTime    time.Time   `json:"mtime"`
	LinkTarget string      `json:"linkTarget,omitempty"` // of a symbolic link: what it finally leads to, from the container's root
}
