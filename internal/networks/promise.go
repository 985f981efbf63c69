package networks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/amphora-go/amphora/internal/attachment"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/proc"
	"github.com/amphora-go/amphora/internal/record"
)

// keeper stands for the network itself where a container's id would be: an
// address that nobody gets.
const keeper = "network"

// promised says whether an address is kept for another container than id.
func (s *Store) promised(network string, addr netip.Addr, id string) (bool, error) {
	holder, err := s.holder(network, addr)
	return holder != "" && holder != id, err
}

// holder is the container that was promised an address; empty: none.
func (s *Store) holder(network string, addr netip.Addr) (string, error) {
	link, err := os.Readlink(s.dir(".reserved", network, addr.String()))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fault.Opaque(err)
	}
	return s.promisee(link), nil
}

// promisee reads a promise: the id of a container, and the process that was
// about to make it, by number and start time. Empty if both are gone.
func (s *Store) promisee(link string) string {
	var id string
	var pid int
	var start uint64
	fmt.Sscan(link, &id, &pid, &start)
	if id == keeper {
		return id
	}
	if _, err := os.Stat(s.root.Path(id, "record.json")); err == nil || pid > 0 && proc.Alive(pid, start) {
		return id
	}
	return ""
}

// sweepPromises forgets what was promised to containers that are gone, or were
// never made. The lock is held exclusively.
func (s *Store) sweepPromises() error {
	files, err := filepath.Glob(s.dir(".reserved", "*", "*"))
	for _, f := range files {
		if link, rerr := os.Readlink(f); rerr == nil && s.promisee(link) == "" {
			err = errors.Join(err, fault.Opaque(os.Remove(f)))
		}
	}
	return err
}

// Promise keeps an address for a container, also while it does not run. An
// address that somebody has or was promised is fs.ErrExist.
func (s *Store) Promise(ctx context.Context, network string, addr netip.Addr, id string) error {
	if network == Default {
		if _, err := s.EnsureDefault(ctx); err != nil {
			return err
		}
	}
	n, err := s.Get(ctx, network)
	if err != nil {
		return fault.New("network", network, fault.Opaque(err))
	}
	if err := n.allows(addr); err != nil {
		return err
	}
	l, err := s.lock(ctx, flock.Exclusive)
	if err != nil {
		return err
	}
	defer l.Release()
	holder, err := s.holder(n.Name, addr)
	if err != nil {
		return err
	}
	if holder == id {
		return nil
	}
	if holder == keeper {
		return fault.Kind(fs.ErrExist, "the address %s of network %s is reserved: no container gets it", addr, n.Name)
	}
	if holder != "" {
		return fault.Kind(fs.ErrExist, "the address %s of network %s is taken by container %s", addr, n.Name, record.Short(holder))
	}
	all, err := attachment.List(s.root.State, n.Name)
	for _, a := range all {
		if a.ID != id && slices.ContainsFunc(a.Addresses, func(p netip.Prefix) bool { return p.Addr() == addr }) {
			return fault.Kind(fs.ErrExist, "the address %s of network %s is in use by %s", addr, n.Name, who(a))
		}
	}
	if err != nil {
		return err
	}
	path := s.dir(".reserved", n.Name, addr.String())
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return trouble("keep the address", err)
	}
	os.Remove(path) // of a container that is gone
	st, err := proc.ReadStat(os.Getpid())
	if err != nil {
		return fault.Opaque(err)
	}
	return trouble("keep the address", os.Symlink(fmt.Sprintf("%s %d %d", id, os.Getpid(), st.StartTime), path))
}

// Release gives the addresses back that a container was promised, on one
// network, or on all with an empty name.
func (s *Store) Release(network, id string) error {
	if network == "" {
		network = "*"
	}
	files, err := filepath.Glob(s.dir(".reserved", network, "*"))
	for _, f := range files {
		if link, rerr := os.Readlink(f); rerr == nil && strings.HasPrefix(link+" ", id+" ") {
			if rerr := os.Remove(f); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
				err = errors.Join(err, fault.Opaque(rerr))
			}
		}
	}
	return err
}
