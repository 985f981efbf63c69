package container

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/host"
	"github.com/amphora-go/amphora/internal/networks"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/recovery"
	"github.com/amphora-go/amphora/internal/shim"
	"github.com/amphora-go/amphora/internal/volumes"
	"github.com/amphora-go/amphora/network"
)

// Options configure a Manager.
type Options struct {
	Logger       *slog.Logger // nil: discard
	Helper       string       // program re-executed for supervisors; empty: this one
	CgroupParent string       // control group below which the store's own is made; empty: the one this process was given
}

// Manager creates and finds the containers of one store. It is safe for
// concurrent use, and so is any number of managers of any number of processes
// on the same store.
type Manager struct {
	root     *record.Root
	images   *image.Store
	volumes  *volumes.Store
	networks *networks.Store
	launcher shim.Launcher
	opts     Options
	log      *slog.Logger

	noOverlay func() bool // replaced by tests

	mu    sync.Mutex  // guards what follows
	owner *shim.Owner // made with the first owned container
	base  string      // control group of the store, computed once
}

// New returns the containers of a store that is already open. Programs use
// amphora.Open, which calls it.
func New(root *record.Root, images *image.Store, opts *Options) *Manager {
	m := &Manager{root: root, images: images, volumes: volumes.Open(root), networks: networks.Open(root)}
	if opts != nil {
		m.opts = *opts
	}
	m.log = m.opts.Logger
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.noOverlay = host.NoOverlay
	m.launcher = &shim.Process{Helper: m.opts.Helper}
	return m
}

// Close ends the containers that this manager owns; the others go on. It is
// idempotent.
func (m *Manager) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.owner
	m.owner = nil
	m.leaveGroup()
	return o.Close()
}

// Container is a handle on one container. It holds nothing but the id, so it
// stays valid while the container changes, and says fs.ErrNotExist after its
// removal. It is safe for concurrent use.
type Container struct {
	m  *Manager
	id string
}

// ID returns the container's 64 hex digits.
func (c *Container) ID() string { return c.id }

// Get finds a container by name, id, or unique beginning of an id.
func (m *Manager) Get(ctx context.Context, ref string) (*Container, error) {
	id, err := m.root.Find(ctx, ref)
	if err != nil {
		return nil, fault.New("container get", ref, err)
	}
	return &Container{m: m, id: id}, nil
}

// Inspect reads the container, mending its record first if its supervisor was
// killed.
func (c *Container) Inspect(ctx context.Context) (*Info, error) {
	s, err := recovery.Judge(ctx, c.m.root, c.id)
	if err != nil {
		return nil, c.fail("inspect", err)
	}
	info := newInfo(s)
	if info.Health != nil {
		if err := c.readHealth(info); err != nil {
			return nil, c.fail("inspect", err)
		}
	}
	if s.Run != nil && s.Wired() {
		if info.Networks, err = network.Attachments(c.m.networks, c.id); err != nil {
			return nil, c.fail("inspect", err)
		}
	}
	if info.Spec, err = readSpec(c.m.root, c.id); err != nil {
		return nil, c.fail("inspect", err)
	}
	if info.Spec.Log.Driver != "none" {
		info.Log = c.m.root.Path(c.id, "log")
	}
	return info, nil
}

// fail wraps an error of an operation on this container.
func (c *Container) fail(op string, err error) error {
	return fault.New("container "+op, record.Short(c.id), err)
}

// control connects to the container's supervisor. A container that is gone is
// fs.ErrNotExist; one that is being started is waited for.
func (c *Container) control(ctx context.Context) (*shim.Client, error) {
	for try := 0; ; try++ {
		client, err := shim.Dial(ctx, c.m.root, c.id)
		if !errors.Is(err, ErrNotRunning) {
			return client, err
		}
		if !c.exists() {
			return nil, fault.NotExist("no such container")
		}
		s, jerr := recovery.Judge(ctx, c.m.root, c.id)
		if jerr != nil {
			return nil, jerr
		}
		if s.Run == nil {
			return nil, err
		}
		// Its supervisor may not listen yet, or no more.
		if s.Run.Seq > 0 && try > 100 {
			return nil, fmt.Errorf("the container runs, but its supervisor, process %d, cannot be reached: the socket %s is gone with what was in the State directory; end that process to stop the container",
				s.Run.Shim, c.m.root.Socket(c.id))
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// exists tells a container that was removed from a broken store.
func (c *Container) exists() bool {
	_, err := os.Stat(c.m.root.Path(c.id, "record.json"))
	return err == nil
}
