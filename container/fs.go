package container

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/amphora-go/amphora/internal/atrest"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/overlay"
	"github.com/amphora-go/amphora/internal/recovery"
	"github.com/amphora-go/amphora/internal/rootdir"
	"github.com/amphora-go/amphora/internal/shim"
)

// FS is the container's root as an fs.FS. Symbolic links, absolute ones too,
// are resolved inside the container; nothing leads out of it. Close it.
//
// Of a running container it shows what the container sees, mounts included; of
// one at rest, its root filesystem without mounts.
type FS struct{ dir *rootdir.Dir }

// FS opens the container's root for reading.
func (c *Container) FS(ctx context.Context) (*FS, error) {
	f, err := c.openRoot(ctx)
	if err != nil {
		return nil, c.fail("fs", err)
	}
	return &FS{rootdir.New(f)}, nil
}

func (c *Container) openRoot(ctx context.Context) (*os.File, error) {
	var root *os.File
	err := c.ask(ctx, func(client *shim.Client) (e error) { root, e = client.Root(ctx); return e })
	if !errors.Is(err, ErrNotRunning) {
		return root, err
	}
	s, err := recovery.Judge(ctx, c.m.root, c.id)
	if err != nil {
		return nil, err
	}
	if s.Rootfs != "" {
		f, err := os.Open(s.Rootfs)
		return f, fault.Opaque(err)
	}
	if err := c.image(ctx, s.Container); err != nil {
		return nil, err
	}
	if s.Copy {
		f, err := os.Open(c.m.root.Path(c.id, "rootfs"))
		return f, fault.Opaque(err)
	}
	return overlay.Open(overlay.Layers{Lower: atrest.Layers(c.m.root, s.Container)}) // read-only, attached nowhere
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Open implements fs.FS. The files are *os.File.
func (f *FS) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return f.dir.Open(name)
}

// Close releases the container's root. It is idempotent.
func (f *FS) Close() error { return f.dir.Close() }
