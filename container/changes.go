package container

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/amphora-go/amphora/internal/archive"
	"github.com/amphora-go/amphora/internal/atrest"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/rootdir"
	"github.com/amphora-go/amphora/internal/shim"
)

// ChangeKind says what a container did to a file, in Docker's letters.
type ChangeKind string

const (
	Added    ChangeKind = "A"
	Modified ChangeKind = "C"
	Deleted  ChangeKind = "D"
)

// Change is a file that differs from the container's image.
type Change struct {
	Path string     `json:"path"` // absolute
	Kind ChangeKind `json:"kind"`
}

// Changes lists what the container, running or not, changed in its root file
// system, in the order of names. A directory counts as modified if something
// was added to it or deleted from it. What is mounted there, and the points
// where the kernel's file systems and /etc/hosts, hostname and resolv.conf are
// mounted, does not count. A container on a rootfs has no image to compare
// with: errors.ErrUnsupported.
func (c *Container) Changes(ctx context.Context) ([]Change, error) {
	rec, err := c.m.root.Load(c.id)
	if err != nil {
		return nil, c.fail("changes", err)
	}
	d, err := c.delta(ctx, rec)
	if err != nil {
		return nil, c.fail("changes", err)
	}
	out := make([]Change, len(d.changes))
	for i, ch := range d.changes {
		out[i] = Change{Path: "/" + ch.Path, Kind: ChangeKind(ch.Kind)}
	}
	return out, nil
}

// delta is what a container changed, and where that is.
type delta struct {
	dir     string // the top layer, or of a copied root all of it
	overlay bool
	skip    func(string) bool
	changes []archive.Change
}

func (c *Container) delta(ctx context.Context, rec *record.Container) (*delta, error) {
	if rec.Rootfs != "" {
		return nil, fault.Unsupported("a container on a rootfs has no image that it could differ from")
	}
	if err := c.layers(ctx, rec); err != nil {
		return nil, err
	}
	cfg, err := c.m.root.LoadConfig(c.id)
	if err != nil {
		return nil, err
	}
	d := &delta{dir: c.m.root.Path(c.id, "upper"), overlay: true, skip: mountpoints(cfg)}
	if rec.Copy {
		d.dir, d.overlay = c.m.root.Path(c.id, "rootfs"), false
	}
	if !exists(d.dir) {
		return d, nil // it never ran
	}
	d.changes, err = archive.Changes(ctx, d.dir, c.m.root.Layers(rec.Layers), &archive.ChangesOptions{Overlay: d.overlay, Skip: d.skip})
	return d, err
}

// mountpoints finds what a start makes in the root of a container: Docker has
// it in a layer between image and container.
func mountpoints(cfg *record.Config) func(string) bool {
	made := map[string]bool{"dev/console": true, "etc/mtab": true}
	for _, m := range cfg.OCI.Mounts {
		if m.Type != "bind" || slices.Contains([]string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}, m.Destination) {
			made[m.Destination[1:]] = true
		}
	}
	return func(name string) bool { return made[name] }
}

// Export returns the container's root file system as a tar stream, without
// what is mounted in it. The caller reads it to its end, which brings the error
// if there was one, and closes it. A running container goes on meanwhile.
func (c *Container) Export(ctx context.Context) (io.ReadCloser, error) {
	root, err := c.base(ctx)
	if err != nil {
		return nil, c.fail("export", err)
	}
	dir := rootdir.New(root)
	return c.stream(ctx, dir.Close, func(ctx context.Context, w io.Writer) error {
		return archive.Create(ctx, w, dir.Path(), nil)
	}), nil
}

// base opens the root file system without mounts.
func (c *Container) base(ctx context.Context) (*os.File, error) {
	var root *os.File
	err := c.ask(ctx, func(client *shim.Client) (e error) { root, e = client.Base(ctx); return e })
	if !errors.Is(err, ErrNotRunning) {
		return root, err
	}
	return c.openRoot(ctx)
}

// Mounted is the root file system of a stopped container, held open.
type Mounted struct {
	root  *atrest.Root
	dir   *rootdir.Dir
	alive *flock.Lock
}

// Mount opens the root file system of a container that does not run, for
// reading and writing and without its volumes, until Close. Meanwhile it cannot
// be started. Nothing of it shows in the host's mounts, and nothing is left
// when this process dies. One that runs is ErrRunning.
func (c *Container) Mount(ctx context.Context) (*Mounted, error) {
	alive, err := c.takeAlive(ctx)
	if err != nil {
		return nil, c.fail("mount", err)
	}
	m := &Mounted{alive: alive}
	rec, err := c.m.root.Load(c.id)
	if err == nil {
		err = c.image(ctx, rec)
	}
	if err == nil {
		m.root, err = atrest.Open(ctx, c.m.root, rec, &atrest.Options{Write: true, Bare: true})
	}
	if err != nil {
		alive.Release()
		return nil, c.fail("mount", err)
	}
	m.dir = rootdir.New(m.root.Dir)
	return m, nil
}

// Dir is the root directory's path in /proc. Every process that may look into
// this one can use it until Close. Symbolic links below it lead where they
// lead on the host: FS and the methods of Container resolve them inside.
func (m *Mounted) Dir() string { return m.dir.PathForOthers() }

// FS reads the tree, with symbolic links resolved inside it. It ends with
// Close.
func (m *Mounted) FS() fs.FS { return &FS{m.dir} }

// Close lets the container go. It is idempotent.
func (m *Mounted) Close() error {
	return errors.Join(m.root.Close(), m.alive.Release())
}
