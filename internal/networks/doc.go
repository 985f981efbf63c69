// Package networks keeps the networks of one Root: what they are, as CNI
// configuration lists on disk, and who is attached to them. It decides names
// and subnets, takes the locks, and leaves interfaces, addresses and packet
// filter to internal/cni.
//
//	Root/networks/<name>.conflist           a network; "amphora" in it is ours, the rest is CNI's
//	Root/networks/.lock                     see below
//	Root/networks/.reserved/<network>/<ip>  a link to whom the address is kept for
//	State/net/attached/<network>/           internal/attachment
//	State/net/{leases,cache}/               internal/cni's
//	State/net/open                          held shared by every engine that is open
//
// Attach and Detach hold .lock shared from before an address is leased until
// the attachment's file is written or gone; whoever judges what is there (GC,
// Reload, Remove, Idle) holds it exclusively.
package networks

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/amphora-go/amphora/internal/cni"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/firewalld"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/nft"
	"github.com/amphora-go/amphora/internal/record"
)

// Default is the network of containers that name none. It is made on first
// use. Names are resolved on all networks but this one, as with Docker.
const Default = "bridge"

// Store is the networks of one Root. It holds nothing; any number of processes
// may work on one Root. It is safe for concurrent use.
type Store struct {
	root  *record.Root
	table *nft.Table
	bus   firewalld.Bus

	// Read from the Root when they are needed first: every program and every
	// start of a container opens networks, and few need these.
	settings func() record.Settings
	cni      func() *cni.CNI
}

// pluginDirs are where CNI plugins lie by the conventions of CNI and of Debian.
var pluginDirs = []string{"/opt/cni/bin", "/usr/lib/cni"}

// Open returns the networks of a Root. It does no I/O.
func Open(root *record.Root) *Store { return openWith(root, firewalld.Bus{}) }

// openWith looks for firewalld on a bus.
func openWith(root *record.Root, bus firewalld.Bus) *Store {
	s := &Store{root: root, table: nft.New(root.ID), bus: bus}
	s.settings = sync.OnceValue(func() record.Settings {
		set, _ := root.Settings() // what is wrong with the file is told by whoever opens the Root
		return set
	})
	s.cni = sync.OnceValue(func() *cni.CNI {
		path := s.settings().Plugins
		if len(path) == 0 {
			path = pluginDirs
		}
		net := filepath.Join(root.State, "net")
		return cni.New(cni.Options{RootID: root.ID, CacheDir: filepath.Join(net, "cache"), LeaseDir: filepath.Join(net, "leases"),
			Path: path, Table: s.table, Firewall: s.bus, Taken: s.promised})
	})
	return s
}

func (s *Store) dir(name ...string) string {
	return filepath.Join(append([]string{s.root.Dir, "networks"}, name...)...)
}

func (s *Store) conflist(name string) string { return s.dir(name + ".conflist") }

// lock takes the lock of all networks.
func (s *Store) lock(ctx context.Context, mode flock.Mode) (*flock.Lock, error) {
	l, err := flock.Acquire(ctx, s.dir(".lock"), mode)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(s.dir(), 0o700); err != nil {
			return nil, trouble("make the directory of networks", err)
		}
		l, err = flock.Acquire(ctx, s.dir(".lock"), mode)
	}
	if err != nil && ctx.Err() == nil {
		return nil, trouble("lock the networks", err)
	}
	return l, err
}

// Use says that a program works with this Root, until it releases the lock:
// what stands idle on the host stays for the next container.
func (s *Store) Use(ctx context.Context) (*flock.Lock, error) {
	if err := os.MkdirAll(filepath.Dir(s.inUse()), 0o700); err != nil {
		return nil, trouble("make the directory of networks", err)
	}
	l, err := flock.Acquire(ctx, s.inUse(), flock.Shared)
	return l, trouble("lock the networks", err)
}

// inUse is not in Root, which may be on a disk that cannot be written. If
// State is wiped, bridges may go too early: they are made again.
func (s *Store) inUse() string { return filepath.Join(s.root.State, "net", "open") }

// trouble wraps a failure of the store's own directory.
func trouble(doing string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, os.ErrPermission) {
		return fault.Privilege("%s: %w; run as root or choose directories you may write (Options.Root, Options.State)", doing, err)
	}
	return fault.Opaque(err)
}
