package container

import (
	"fmt"
	"os"
	"path"
	"slices"
	"sort"
	"strings"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/jail"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/network"
	"github.com/amphora-go/amphora/volume"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// etcFiles are made for each container and mounted over those of the image.
var etcFiles = map[string]string{"hostname": "/etc/hostname", "hosts": "/etc/hosts", "resolv.conf": "/etc/resolv.conf"}

// mounts compiles everything the container sees besides its root: the base
// file systems, the files in /etc, and the Spec's own, parents before what
// lies below them. A mount of the Spec replaces a base one with its target.
func mounts(spec *Spec, f *facts, c *compiled) error {
	var own []specs.Mount
	targets := map[string]bool{}
	for _, m := range f.mounts {
		if targets[m.Target] {
			return fault.Invalid("two mounts have the target %s", m.Target)
		}
		targets[m.Target] = true
		mount, err := compileMount(m, f, c)
		if err != nil {
			return err
		}
		own = append(own, mount)
	}
	sort.SliceStable(own, func(i, j int) bool {
		return strings.Count(own[i].Destination, "/") < strings.Count(own[j].Destination, "/")
	})
	all := slices.DeleteFunc(jail.Mounts(spec.Security.Privileged, spec.Resources.ShmSize), func(m specs.Mount) bool { return targets[m.Destination] })
	all = append(all, etc(f, c, targets)...)
	c.cfg.OCI.Mounts = append(all, own...)
	c.cfg.OCI.Linux.RootfsPropagation = propagation(f.mounts)
	return nil
}

// etc mounts the generated files, in a fixed order.
func etc(f *facts, c *compiled, targets map[string]bool) []specs.Mount {
	dir := f.dir
	if f.joined != "" {
		dir = f.joinDir
	}
	var out []specs.Mount
	for _, name := range []string{"hostname", "hosts", "resolv.conf"} {
		if targets[etcFiles[name]] {
			c.cfg.Files.Skip = append(c.cfg.Files.Skip, name)
			continue
		}
		out = append(out, specs.Mount{Destination: etcFiles[name], Type: "bind", Source: path.Join(dir, name),
			Options: []string{"rbind", "rprivate"}})
	}
	return out
}

// withImageVolumes adds an anonymous volume for each VOLUME of the image that
// no mount covers, and cleans the targets.
func withImageVolumes(in []volume.Mount, img *image.RunConfig) ([]volume.Mount, error) {
	out := slices.Clone(in)
	covered := map[string]bool{}
	for i := range out {
		if out[i].Type == "" {
			out[i].Type = volume.Named
		}
		if err := out[i].Validate(); err != nil {
			return nil, err
		}
		out[i].Target = path.Clean(out[i].Target)
		covered[out[i].Target] = true
	}
	var more []string
	for target := range img.Volumes {
		if target = path.Clean(path.Join("/", target)); !covered[target] && target != "/" {
			more = append(more, target)
		}
	}
	sort.Strings(more)
	for _, target := range more {
		out = append(out, volume.Mount{Type: volume.Named, Target: target})
	}
	return out, nil
}

func compileMount(m volume.Mount, f *facts, c *compiled) (specs.Mount, error) {
	switch m.Type {
	case volume.Bind:
		return specs.Mount{Destination: m.Target, Type: "bind", Source: m.Source, Options: bindOptions(m, f)}, nil
	case volume.Tmpfs:
		return specs.Mount{Destination: m.Target, Type: "tmpfs", Source: "tmpfs", Options: tmpfsOptions(m)}, nil
	case volume.Named:
		v := f.volumes[m.Target]
		c.rec.Volumes = append(c.rec.Volumes, record.Use{Name: v.name, Target: m.Target, Anonymous: m.Source == ""})
		if m.Subpath != "" {
			return specs.Mount{}, fault.Unsupported("mount %s: subpaths of volumes are not available yet", m.Target)
		}
		if v.fillable {
			c.cfg.CopyUp = append(c.cfg.CopyUp, record.CopyUp{Source: v.source, Target: m.Target, Finish: m.NoCopy})
		}
		return specs.Mount{Destination: m.Target, Type: "bind", Source: v.source, Options: bindOptions(m, f)}, nil
	case volume.Image:
		if m.Subpath != "" {
			return specs.Mount{}, fault.Unsupported("mount %s: subpaths of images are not available yet", m.Target)
		}
		dir := path.Join(f.dir, fmt.Sprint("image", len(c.cfg.Images)))
		layers := f.images[m.Target]
		c.cfg.Images = append(c.cfg.Images, record.Image{Layers: layers, Dir: dir})
		c.rec.Mounted = append(c.rec.Mounted, layers...)
		return specs.Mount{Destination: m.Target, Type: "bind", Source: dir, Options: []string{"rbind", "rprivate", "ro"}}, nil
	}
	return specs.Mount{}, fault.Invalid("mount %s: unknown type %q", m.Target, m.Type)
}

func bindOptions(m volume.Mount, f *facts) []string {
	bind := "rbind"
	if m.NonRecursive {
		bind = "bind"
	}
	prop := m.Propagation
	if prop == "" {
		prop = "rprivate"
	}
	options := []string{bind, prop}
	switch {
	case !m.ReadOnly:
	case f.host.recursiveRO && !m.ReadOnlyNonRecursive:
		options = append(options, "ro", "rro")
	default:
		options = append(options, "ro")
	}
	return options
}

func tmpfsOptions(m volume.Mount) []string {
	options := []string{"noexec", "nosuid", "nodev"}
	for _, o := range m.TmpfsOptions {
		if o == "exec" || o == "suid" || o == "dev" {
			options = slices.DeleteFunc(options, func(d string) bool { return d == "no"+o })
		}
		options = append(options, o)
	}
	if m.TmpfsSize > 0 {
		options = append(options, fmt.Sprintf("size=%d", m.TmpfsSize))
	}
	mode := "1777"
	if m.TmpfsMode != 0 {
		mode = octal(m.TmpfsMode)
	}
	options = append(options, "mode="+mode)
	if m.ReadOnly {
		options = append(options, "ro")
	}
	return options
}

// octal writes a mode as mount(8) takes it.
func octal(m os.FileMode) string {
	n := uint32(m.Perm())
	for bit, v := range map[os.FileMode]uint32{os.ModeSticky: 0o1000, os.ModeSetgid: 0o2000, os.ModeSetuid: 0o4000} {
		if m&bit != 0 {
			n |= v
		}
	}
	return fmt.Sprintf("%o", n)
}

// propagation is what the root's mount must have so that a bind's can work.
func propagation(mounts []volume.Mount) string {
	out := ""
	for _, m := range mounts {
		switch m.Propagation {
		case "shared", "rshared":
			return "shared"
		case "slave", "rslave":
			out = "slave"
		}
	}
	return out
}

// joined returns which container's network the Spec wants to share.
func joined(spec *Spec) (ref string, ok bool) {
	if len(spec.Networks) != 1 {
		return "", false
	}
	return network.Endpoint{Network: spec.Networks[0].Network}.Joined()
}
