package ipam

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/step"
)

// ErrExhausted says that every address of a range is taken.
var ErrExhausted = errors.New("no free address")

// each calls f for every lease of a network. Leases of nobody (empty files) have
// an empty key.
func (s *Store) each(network string, f func(netip.Addr, Key) error) error {
	entries, err := os.ReadDir(s.leases(network))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.Opaque(err)
	}
	for _, e := range entries {
		a, err := netip.ParseAddr(e.Name())
		if err != nil {
			continue
		}
		who, err := readLease(filepath.Join(s.leases(network), e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fault.Opaque(err)
		}
		if err := f(a, who); err != nil {
			return err
		}
	}
	return nil
}

// Leases lists who has which address. It is a snapshot, taken without a lock.
func (s *Store) Leases(network string) (map[netip.Addr]Key, error) {
	all := map[netip.Addr]Key{}
	err := s.each(network, func(a netip.Addr, k Key) error {
		if k.ID != "" {
			all[a] = k
		}
		return nil
	})
	return all, err
}

// GC releases what is leased to none of the valid attachments, and removes what
// killed processes left: empty leases, temporary files, stray index files.
func (s *Store) GC(ctx context.Context, network string, valid []Key) error {
	if _, err := os.Stat(s.leases(network)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	unlock, err := s.lock(ctx, network)
	if err != nil {
		return err
	}
	defer unlock()
	keep := map[Key]bool{}
	ids := map[string]bool{}
	for _, k := range valid {
		keep[k], ids[k.ID] = true, true
	}
	err = s.each(network, func(a netip.Addr, k Key) error {
		if keep[k] || k.IfName == "" && ids[k.ID] {
			return nil
		}
		step.At("ipam.gc.lease")
		return remove(addressFile(s.leases(network), a))
	})
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(s.index(network))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Opaque(err)
	}
	for _, e := range entries {
		id, ifname, _ := strings.Cut(e.Name(), ":")
		if keep[Key{id, ifname}] {
			continue
		}
		if err := remove(filepath.Join(s.index(network), e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Drop removes the directories of a network, unless it has leases.
func (s *Store) Drop(ctx context.Context, network string) error {
	if _, err := os.Stat(s.leases(network)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	unlock, err := s.lock(ctx, network)
	if err != nil {
		return err
	}
	defer unlock()
	leases, err := s.Leases(network)
	if err != nil {
		return err
	}
	for a, k := range leases {
		return fault.Kind(fault.ErrInUse, "network %s is in use: %s has address %s", network, k, a)
	}
	// The lock goes with its directory: whoever waited for it sees that the file
	// was replaced and takes the new one.
	return errors.Join(fault.Opaque(os.RemoveAll(s.index(network))), fault.Opaque(os.RemoveAll(s.leases(network))))
}
