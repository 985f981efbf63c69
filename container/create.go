package container

import (
	"context"
	"errors"
	"os"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/host"
	"github.com/amphora-go/amphora/internal/jail"
	"github.com/amphora-go/amphora/internal/proc"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/recovery"
	"github.com/amphora-go/amphora/internal/volumes"
	"github.com/amphora-go/amphora/volume"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Create makes a container from an image of the store, or from a rootfs. It
// starts nothing and pulls nothing: the image must be there (fs.ErrNotExist).
// Layers that are not unpacked yet are. What Create began is undone when it
// fails.
//
// A taken name is fs.ErrExist; what cannot be is fs.ErrInvalid and names the
// field.
func (m *Manager) Create(ctx context.Context, spec *Spec, opts *CreateOptions) (*Container, error) {
	if opts == nil {
		opts = &CreateOptions{}
	}
	name := spec.Name
	if name == "" {
		name = spec.Image + spec.Rootfs
	}
	c, err := m.create(ctx, spec, opts)
	if err != nil {
		return nil, fault.New("container create", name, err)
	}
	return c, nil
}

// draft is a container that is being created.
type draft struct {
	m      *Manager
	spec   *Spec
	facts  facts
	image  *image.Image
	leases []*image.Lease
	claims []*volumes.Claim
	kept   bool // addresses were promised to it
}

func (m *Manager) create(ctx context.Context, spec *Spec, opts *CreateOptions) (_ *Container, err error) {
	if err := validate(spec); err != nil {
		return nil, err
	}
	d := &draft{m: m, spec: spec}
	defer func() { err = errors.Join(err, d.close(context.WithoutCancel(ctx), err != nil)) }()
	if err := d.gather(ctx); err != nil {
		return nil, err
	}
	comp, err := compile(spec, &d.facts)
	if err != nil {
		return nil, err
	}
	if err := d.secure(ctx, comp, opts.Customize); err != nil {
		return nil, err
	}
	if d.image != nil {
		comp.rec.ImageID, comp.rec.Manifest, comp.rec.Layers = d.image.ID(), d.image.Manifest(), d.image.Layers()
	}
	if opts.Owned {
		st, err := proc.ReadStat(os.Getpid())
		if err != nil {
			return nil, err
		}
		comp.rec.Owned, comp.rec.Linger = true, opts.Linger
		comp.rec.Owner = &record.Owner{Pid: os.Getpid(), Start: st.StartTime}
	}
	data, err := wordForWord(spec)
	if err != nil {
		return nil, err
	}
	if err := d.promise(ctx, comp.rec); err != nil {
		return nil, err
	}
	l, err := m.root.Create(ctx, comp.rec, comp.cfg, data)
	if errors.Is(err, os.ErrExist) && m.nameIsFree(ctx, comp.rec.Name) {
		l, err = m.root.Create(ctx, comp.rec, comp.cfg, data)
	}
	if err != nil {
		return nil, err
	}
	return &Container{m: m, id: comp.rec.ID}, l.Release()
}

// nameIsFree reports that the holder of a name was only left over by a killed
// supervisor, and is gone now that somebody looked.
func (m *Manager) nameIsFree(ctx context.Context, name string) bool {
	id, err := m.root.Find(ctx, name)
	if err == nil {
		_, err = recovery.Judge(ctx, m.root, id)
	}
	return errors.Is(err, os.ErrNotExist)
}

// close gives back what kept image and volumes in place. After a failure the
// volumes that were made for this container go again.
func (d *draft) close(ctx context.Context, failed bool) error {
	var errs error
	if failed && d.kept {
		errs = d.m.networks.Release("", d.facts.id)
	}
	for _, l := range d.leases {
		errs = errors.Join(errs, l.Close())
	}
	for _, c := range d.claims {
		if failed {
			errs = errors.Join(errs, c.Undo(ctx))
		} else {
			errs = errors.Join(errs, c.Release())
		}
	}
	return errs
}

// gather looks at everything that compile must know.
func (d *draft) gather(ctx context.Context) error {
	m, f := d.m, &d.facts
	f.id = record.NewID()
	f.dir = m.root.Path(f.id)
	h := host.Look()
	f.host = hostFacts{cpus: h.CPUs, unified: h.Unified, swapLimits: h.SwapLimits, hostname: h.Hostname, recursiveRO: h.RecursiveRO, caps: host.Capabilities()}
	f.host.online, f.host.nodes = host.Online()
	f.device = func(dev Device) ([]specs.LinuxDevice, error) {
		target := dev.Target
		if target == "" {
			target = dev.Path
		}
		return host.Device(dev.Path, target)
	}
	f.all = func() ([]specs.LinuxDevice, error) { return host.Device("/dev", "/dev") }
	var err error
	if f.base, err = m.group(); err != nil {
		return err
	}
	if ref, ok := joined(d.spec); ok {
		if f.joined, err = m.root.Find(ctx, ref); err != nil {
			return fault.Invalid("the network of container %q: %w", ref, fault.Opaque(err))
		}
		f.joinDir = m.root.Path(f.joined)
		cfg, err := m.root.LoadConfig(f.joined)
		if err != nil {
			return err
		}
		f.joinName = cfg.Files.Hostname
	}
	if f.networks, err = m.endpoints(ctx, d.spec); err != nil {
		return err
	}
	img := new(image.Config)
	if d.spec.Image != "" {
		if d.image, err = m.images.Get(ctx, d.spec.Image); err != nil {
			return err
		}
		if err := d.prepare(ctx, d.image); err != nil {
			return err
		}
		f.copy = m.noOverlay()
		img = d.image.Config()
	} else if err := isDir("rootfs", d.spec.Rootfs); err != nil {
		return err
	}
	f.image = img
	if f.mounts, err = withImageVolumes(d.spec.Mounts, &img.Config); err != nil {
		return err
	}
	return d.claim(ctx)
}

// prepare unpacks an image and keeps it until the container's record names
// its layers.
func (d *draft) prepare(ctx context.Context, img *image.Image) error {
	l, err := img.Prepare(ctx)
	if err == nil {
		d.leases = append(d.leases, l)
	}
	return err
}

func isDir(what, path string) error {
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return fault.Invalid("%s %s does not exist on this machine", what, path)
	}
	if err != nil {
		return fault.Opaque(err)
	}
	if !st.IsDir() {
		return fault.Invalid("%s %s is no directory", what, path)
	}
	return nil
}

// claim makes the volumes and checks the sources of binds.
func (d *draft) claim(ctx context.Context) error {
	d.facts.volumes, d.facts.images = map[string]claimed{}, map[string][]string{}
	for _, m := range d.facts.mounts {
		switch m.Type {
		case volume.Bind:
			if err := bindSource(m); err != nil {
				return err
			}
		case volume.Image:
			img, err := d.m.images.Get(ctx, m.Source)
			if err != nil {
				return fault.Invalid("the image %q of the mount at %s: %w", m.Source, m.Target, fault.Opaque(err))
			}
			if err := d.prepare(ctx, img); err != nil {
				return err
			}
			d.facts.images[m.Target] = img.Layers()
		case volume.Named:
			spec := &volumes.Spec{Name: m.Source, Labels: m.Labels, Driver: m.Driver, Options: m.DriverOptions, Anonymous: m.Source == "", Volatile: d.spec.AutoRemove && m.Source == ""}
			c, err := d.m.volumes.Ensure(ctx, spec)
			if err != nil {
				return err
			}
			d.claims = append(d.claims, c)
			d.facts.volumes[m.Target] = claimed{name: c.Name, source: c.Source(), fillable: c.Fillable()}
		}
	}
	return nil
}

func bindSource(m volume.Mount) error {
	_, err := os.Stat(m.Source)
	switch {
	case errors.Is(err, os.ErrNotExist) && m.CreateSource:
		return fault.Opaque(os.MkdirAll(m.Source, 0o755))
	case errors.Is(err, os.ErrNotExist):
		return fault.Invalid("the source %s of the mount at %s does not exist on this machine: make it, or let the mount make it (CreateSource)", m.Source, m.Target)
	}
	return fault.Opaque(err)
}

// secure lets the caller change the configuration, and compiles the seccomp
// profile that results.
func (d *draft) secure(ctx context.Context, c *compiled, customize func(*specs.Spec) error) error {
	profile, err := d.profile(c)
	if err != nil {
		return err
	}
	c.cfg.OCI.Linux.Seccomp = profile
	if customize != nil {
		c.cfg.OCI.Root.Path = "rootfs"
		if err := customize(c.cfg.OCI); err != nil {
			return err
		}
		if err := sane(c.cfg.OCI); err != nil {
			return err
		}
		c.cfg.Customed = true
		c.rec.Command, c.rec.TTY = c.cfg.OCI.Process.Args, c.cfg.OCI.Process.Terminal
	}
	profile, c.cfg.OCI.Linux.Seccomp = c.cfg.OCI.Linux.Seccomp, nil
	c.cfg.Seccomp, err = jail.Filter(ctx, d.m.root.Dir, profile)
	return err
}

func (d *draft) profile(c *compiled) (*specs.LinuxSeccomp, error) {
	if d.spec.Security.Privileged && c.seccomp == "" {
		return nil, nil
	}
	return jail.Profile(c.cfg.OCI, c.seccomp)
}

// sane checks what a Customize function may have broken.
func sane(oci *specs.Spec) error {
	if oci.Root == nil || oci.Process == nil || oci.Linux == nil || oci.Process.Capabilities == nil {
		return fault.Invalid("Customize removed a part of the configuration: Root, Process, Process.Capabilities and Linux must stay")
	}
	if len(oci.Process.Args) == 0 {
		return fault.Invalid("Customize removed the command")
	}
	return nil
}
