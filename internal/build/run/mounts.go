package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/host"
	"github.com/amphora-go/amphora/internal/jail"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// mounts compiles the root and what is mounted in it: the base file systems,
// the generated files, then the command's own in their order.
func (c *compiled) mounts(ctx context.Context, root *record.Root) error {
	s, oci, b := c.step, c.cfg.OCI, c.cfg.Build
	var err error
	if b.Root, err = c.tree(root, "", &s.Root, s.Layer, true); err != nil {
		return err
	}
	all := jail.Mounts(s.Exec.Insecure, 0)
	for _, name := range []string{"hosts", "resolv.conf"} {
		all = append(all, specs.Mount{Destination: "/etc/" + name, Type: "bind", Source: filepath.Join(c.dir, name), Options: bind(true)})
	}
	next := 0
	for _, m := range s.Exec.Mounts {
		if m.Target == "/" {
			oci.Root.Readonly = m.ReadOnly
			if m.Selector != "" && path.Clean("/"+m.Selector) != "/" {
				return fault.Unsupported("a command that runs in %s of a tree: copy that into a tree of its own", m.Selector)
			}
			continue
		}
		from := &s.Mounts[next]
		next++
		mount, err := c.mount(ctx, root, &m, from)
		if err != nil {
			return err
		}
		if mount == nil {
			continue
		}
		mount.Destination = path.Clean(path.Join("/", oci.Process.Cwd, m.Target))
		if path.IsAbs(m.Target) {
			mount.Destination = path.Clean(m.Target)
		}
		if mount.Type == "tmpfs" { // the size of /dev/shm, as a rule
			all = slices.DeleteFunc(all, func(o specs.Mount) bool { return o.Destination == mount.Destination })
		}
		all = append(all, *mount)
	}
	oci.Mounts = all
	return nil
}

// bind are the options of a bind mount.
func bind(readOnly bool) []string {
	options := []string{"rbind", "rprivate"}
	if readOnly {
		options = append(options, "ro")
		if host.Look().RecursiveRO {
			options = append(options, "rro")
		}
	}
	return options
}

// mount compiles one. Nil: an optional one that is not there.
func (c *compiled) mount(ctx context.Context, root *record.Root, m *op.Mount, from *Mount) (*specs.Mount, error) {
	switch m.Type {
	case op.Bind, op.Cache:
		return c.bindMount(root, m, from)
	case op.Tmpfs:
		options := []string{"nosuid", "mode=1777"}
		if m.Size > 0 {
			options = append(options, fmt.Sprintf("size=%d", m.Size))
		}
		if m.ReadOnly {
			options = append(options, "ro")
		}
		return &specs.Mount{Type: "tmpfs", Source: "tmpfs", Options: options}, nil
	case op.Secret:
		value, ok, err := c.secret(ctx, m.ID, m.Optional)
		if err != nil || !ok {
			return nil, err
		}
		b := c.cfg.Build
		name := fmt.Sprint("secrets/", len(b.Secrets))
		b.Secrets = append(b.Secrets, record.Secret{Name: name, UID: m.UID, GID: m.GID, Mode: m.Mode})
		c.secrets.Files = append(c.secrets.Files, value)
		return &specs.Mount{Type: "bind", Source: filepath.Join(c.dir, name), Options: append(bind(true), "nosuid", "nodev", "noexec")}, nil
	case op.SSH:
		return c.agentMount(ctx, m)
	}
	return nil, fault.Unsupported("a mount of type %q at %s", m.Type, m.Target)
}

func (c *compiled) bindMount(root *record.Root, m *op.Mount, from *Mount) (*specs.Mount, error) {
	b := c.cfg.Build
	name := fmt.Sprint("tree", len(b.Trees))
	t := record.Tree{Name: name, Dir: from.Dir}
	if m.Type == op.Cache && from.Dir == "" {
		return nil, fmt.Errorf("the cache mount at %s has no directory", m.Target)
	}
	if m.Type == op.Bind {
		var err error
		if t, err = c.tree(root, name, &from.Tree, from.Layer, !m.ReadOnly); err != nil {
			return nil, err
		}
		c.rec.Mounted = append(c.rec.Mounted, from.Tree.Layers...)
	}
	if sel := path.Clean("/" + m.Selector); sel != "/" {
		t.Selector = sel
	}
	source := filepath.Join(c.dir, t.Name)
	switch {
	case t.Selector != "":
		source = filepath.Join(c.dir, t.Selected())
	case t.Dir != "":
		source = t.Dir
	}
	b.Trees = append(b.Trees, t)
	return &specs.Mount{Type: "bind", Source: source, Options: bind(m.ReadOnly)}, nil
}

// tree compiles one that is made of layers. What is changed in it goes to the
// layer, or with the container.
func (c *compiled) tree(root *record.Root, name string, from *Tree, layer *Layer, writable bool) (record.Tree, error) {
	t := record.Tree{Name: name, Lower: from.Lower}
	if len(from.Layers) > 0 {
		var err error
		if t.Lower, err = lowers(root, from.Layers); err != nil {
			return t, err
		}
	}
	switch {
	case layer != nil:
		t.Upper, t.Work = layer.Upper, layer.Work
	case writable:
		t.Upper, t.Work = filepath.Join(c.dir, name+"upper"), filepath.Join(c.dir, name+"work")
	}
	return t, nil
}

// lowers are the directories of layers, the topmost first. Two names may be of
// one directory, which no overlay takes twice; without the lower one of them
// the tree is the same.
func lowers(root *record.Root, layers []string) ([]string, error) {
	var out []string
	for _, dir := range root.Layers(layers) {
		real, err := filepath.EvalSymlinks(dir)
		if errors.Is(err, os.ErrNotExist) {
			return nil, fault.Opaque(fmt.Errorf("the layer at %s is not in the store any more", dir))
		}
		if err != nil {
			return nil, fault.Opaque(err)
		}
		if !slices.Contains(out, real) {
			out = append(out, real)
		}
	}
	return out, nil
}
