package network

import (
	"context"
	"errors"
	"io/fs"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/networks"
	"github.com/amphora-go/amphora/internal/record"
)

// Error is the error of every method of this package: the operation, the
// network as the caller named it, and the cause.
type Error = fault.Error

// ErrInUse is in the error of Remove while anybody is attached.
var ErrInUse = fault.ErrInUse

// Options say where networks live. The zero value is usable.
type Options struct {
	// Root holds the networks; default /var/lib/amphora, or
	// $XDG_DATA_HOME/amphora (~/.local/share/amphora) when not root.
	Root string
	// State holds what does not survive a reboot; default /run/amphora, or
	// $XDG_RUNTIME_DIR/amphora when not root.
	State string
}

// Manager is the networks of one Root. It is safe for concurrent use; any
// number of processes may work on one Root.
type Manager struct {
	root *record.Root
	s    *networks.Store
}

// Open returns the networks of opts.Root. It holds nothing that would have to
// be closed: the directory is the state. Nil options are valid.
func Open(ctx context.Context, opts *Options) (*Manager, error) {
	if opts == nil {
		opts = &Options{}
	}
	root, err := record.OpenDirs(ctx, opts.Root, opts.State)
	if err != nil {
		return nil, fault.New("network open", opts.Root, err)
	}
	return New(root), nil
}

// New is Open on a Root that an engine opened already. Programs use Open.
func New(root *record.Root) *Manager { return &Manager{root, networks.Open(root)} }

// Create makes a network. A name that is taken is [fs.ErrExist]; what cannot
// be is [fs.ErrInvalid] and names the field. Two programs that create at once
// never get overlapping subnets.
func (m *Manager) Create(ctx context.Context, spec *Spec) (*Network, error) {
	s, err := spec.internal()
	if err != nil {
		return nil, fault.New("network create", "", err)
	}
	n, err := m.s.Create(ctx, s)
	if err != nil {
		return nil, fault.New("network create", spec.Name, err)
	}
	return &Network{m, n.Name, n.ID}, nil
}

// Get returns the network of that name, id or unique beginning of an id, or
// [fs.ErrNotExist].
func (m *Manager) Get(ctx context.Context, ref string) (*Network, error) {
	if ref == None || ref == Host {
		return &Network{m: m, name: ref, id: fixedID(ref)}, nil
	}
	n, err := m.look(ctx, ref)
	if err != nil {
		return nil, fault.New("network get", ref, err)
	}
	return &Network{m, n.Name, n.ID}, nil
}

// look finds a network; the default one need not exist yet.
func (m *Manager) look(ctx context.Context, ref string) (*networks.Network, error) {
	if ref == "default" {
		ref = Bridge
	}
	n, err := m.s.Get(ctx, ref)
	if planned := m.s.Planned(); errors.Is(err, fs.ErrNotExist) && (ref == Bridge || ref == planned.ID) {
		return planned, nil
	}
	return n, err
}

// find is look for somebody who will use the network: the default one is made.
func (m *Manager) find(ctx context.Context, ref string) (*networks.Network, error) {
	if ref == Bridge || ref == "default" {
		return m.s.EnsureDefault(ctx)
	}
	return m.s.Get(ctx, ref)
}

// Remove deletes the network of that name or id. The error Is ErrInUse, and
// names who uses it, while anybody is attached.
func (m *Manager) Remove(ctx context.Context, ref string) error {
	return fault.New("network remove", ref, m.s.Remove(ctx, ref))
}

// Reload makes interfaces and packet filter of all networks again as they
// should be, after "nft flush ruleset" or the restart of a firewall. Running
// containers keep their addresses and connections.
func (m *Manager) Reload(ctx context.Context) error {
	return fault.New("network reload", "", m.s.Reload(ctx))
}

// Recover takes back what killed processes left on the host. Engine.Recover
// calls it.
func (m *Manager) Recover(ctx context.Context) error {
	return fault.New("network recover", "", m.s.GC(ctx))
}

// PruneOptions choose what Prune may remove.
type PruneOptions struct{ ListOptions }

// Prune removes the networks that nobody is attached to, but for the default
// one and those of other tools. It returns their names.
func (m *Manager) Prune(ctx context.Context, opts *PruneOptions) ([]string, error) {
	var o ListOptions
	if opts != nil {
		o = opts.ListOptions
	}
	all, err := m.List(ctx, &o)
	if err != nil {
		return nil, fault.New("network prune", "", errors.Unwrap(err))
	}
	var removed []string
	for _, n := range all {
		if n.Builtin() || n.Foreign || n.Problem != "" || len(n.Attached) > 0 {
			continue
		}
		err := m.s.Remove(ctx, n.Name)
		if errors.Is(err, ErrInUse) || errors.Is(err, fs.ErrNotExist) {
			continue // somebody was faster
		}
		if err != nil {
			return removed, fault.New("network prune", n.Name, err)
		}
		removed = append(removed, n.Name)
	}
	return removed, nil
}
