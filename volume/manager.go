package volume

import (
	"context"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/volumes"
)

// Error is the error of every method of this package: the operation, the
// volume as the caller named it, and the cause.
type Error = fault.Error

// ErrInUse is in the error of Remove when a container uses the volume, or is
// being created with it.
var ErrInUse = fault.ErrInUse

// Options say where volumes live. The zero value is usable.
type Options struct {
	// Root holds the volumes; default /var/lib/amphora, or
	// $XDG_DATA_HOME/amphora (~/.local/share/amphora) when not root.
	Root string
	// State holds what does not survive a reboot; default /run/amphora, or
	// $XDG_RUNTIME_DIR/amphora when not root.
	State string
}

// Manager is the volumes of one Root. It is safe for concurrent use; any
// number of processes may work on one Root.
type Manager struct{ s *volumes.Store }

// Open returns the volumes of opts.Root. It holds nothing that would have to
// be closed: the directory is the state. Nil options are valid.
func Open(ctx context.Context, opts *Options) (*Manager, error) {
	if opts == nil {
		opts = &Options{}
	}
	root, err := record.OpenDirs(ctx, opts.Root, opts.State)
	if err != nil {
		return nil, fault.New("volume open", opts.Root, err)
	}
	return New(root), nil
}

// New is Open on a Root that an engine opened already. Programs use Open.
func New(root *record.Root) *Manager { return &Manager{volumes.Open(root)} }

// Spec says what volume to make. The zero value makes an anonymous one.
type Spec struct {
	// Name is two to 200 letters, digits, '_', '.' or '-', and begins with a
	// letter or digit. Empty: 64 random hex digits, and the volume is
	// anonymous.
	Name   string            `json:"name,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	// Driver is "local", which is the default.
	Driver string `json:"driver,omitempty"`
	// Options of the driver, as for mount(8). Local knows those of a directory
	// of the host: type=none, o=bind (or rbind), device=/directory. Then that
	// directory is the content, and removing the volume does not touch it.
	// Without options the volume has a directory of its own.
	Options map[string]string `json:"options,omitempty"`
	// Anonymous makes a volume with a name anonymous, too.
	Anonymous bool `json:"anonymous,omitempty"`
}

func (s *Spec) internal() *volumes.Spec {
	if s == nil {
		return nil
	}
	return &volumes.Spec{Name: s.Name, Labels: s.Labels, Driver: s.Driver, Options: s.Options, Anonymous: s.Anonymous}
}

func (s *Spec) name() string {
	if s == nil {
		return ""
	}
	return s.Name
}

// Create makes a volume; nil makes an anonymous one. A name that is taken is
// [fs.ErrExist]; driver options that are not there yet are
// [errors.ErrUnsupported], and say what to use instead.
func (m *Manager) Create(ctx context.Context, spec *Spec) (*Volume, error) {
	v, err := m.s.Create(ctx, spec.internal())
	if err != nil {
		return nil, fault.New("volume create", spec.name(), err)
	}
	return &Volume{m.s, v.Name}, nil
}

// Ensure returns the volume of the spec's name, as it is, or makes it. When
// several processes want the same one, one of them makes it. Created says
// whether this call did.
func (m *Manager) Ensure(ctx context.Context, spec *Spec) (v *Volume, created bool, err error) {
	c, err := m.s.Ensure(ctx, spec.internal())
	if err != nil {
		return nil, false, fault.New("volume create", spec.name(), err)
	}
	return &Volume{m.s, c.Name}, c.Created, fault.New("volume create", c.Name, c.Release())
}

// Get returns the volume of that name, or [fs.ErrNotExist]. A volume whose
// record is damaged is another error.
func (m *Manager) Get(ctx context.Context, name string) (*Volume, error) {
	if _, err := m.s.Get(ctx, name); err != nil {
		return nil, fault.New("volume get", name, err)
	}
	return &Volume{m.s, name}, nil
}

// Remove deletes the volume of that name and its data, also one whose record
// is damaged. The error Is ErrInUse, and names the containers, when it is in
// use; [fs.ErrNotExist] when there is none.
func (m *Manager) Remove(ctx context.Context, name string) error {
	return fault.New("volume remove", name, m.s.Remove(ctx, name))
}

// Volume is one volume of a Root, which may be removed meanwhile. It is safe
// for concurrent use.
type Volume struct {
	s    *volumes.Store
	name string
}

// Name is the volume's name.
func (v *Volume) Name() string { return v.name }

// Inspect returns what the volume is now, with the containers that use it.
func (v *Volume) Inspect(ctx context.Context) (*Info, error) {
	vol, err := v.s.Get(ctx, v.name)
	if err != nil {
		return nil, fault.New("volume inspect", v.name, err)
	}
	// Containers that cannot be read are no reason to show nothing.
	users, _ := v.s.Users()
	info := makeInfo(vol, users[v.name])
	return &info, nil
}

// Size returns the bytes of the volume's files: their lengths added up, a file
// with several links counted once; -1 if the volume is a directory of the host.
// It reads the whole tree.
func (v *Volume) Size(ctx context.Context) (int64, error) {
	n, err := v.s.Size(ctx, v.name)
	return n, fault.New("volume size", v.name, err)
}

// Remove is [Manager.Remove] of this volume.
func (v *Volume) Remove(ctx context.Context) error {
	return fault.New("volume remove", v.name, v.s.Remove(ctx, v.name))
}
