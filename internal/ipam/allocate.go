package ipam

import (
	"context"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
)

// Want is what an attachment asks for.
type Want struct {
	Key
	Addresses []netip.Addr // must be had; at most one for each set
	Prefer    []netip.Addr // are had when they are free

	// Taken, when not nil, says whether an address is promised to somebody else.
	// It is called with the network's lock held.
	Taken func(netip.Addr) (bool, error)
}

// Lease is an address that was given, with the length of its subnet.
type Lease struct {
	Prefix  netip.Prefix
	Gateway netip.Addr
}

// Allocate gives an address of each set. Either all are given or none. It
// fails with ErrAttached when the attachment has leases already; with
// fs.ErrExist when a demanded address is in use, naming the holder; with
// fs.ErrInvalid when it is none of the network's; and when a range is used up.
func (s *Store) Allocate(ctx context.Context, network string, sets []Set, w Want) ([]Lease, error) {
	sets, err := Canonical(sets)
	if err != nil {
		return nil, err
	}
	unlock, err := s.lock(ctx, network)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if held, _, err := s.heldIndexed(network, w.Key); err != nil {
		return nil, err
	} else if len(held) > 0 {
		return nil, fault.Kind(ErrAttached, "%s is attached to network %s already, with address %s: detach it first", w.Key, network, held[0])
	}
	demanded, err := demands(network, sets, w.Addresses)
	if err != nil {
		return nil, err
	}
	var leases []Lease
	var addresses []netip.Addr
	for i, set := range sets {
		a, r, err := s.choose(ctx, network, i, set, demanded[i], w)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, a)
		leases = append(leases, Lease{Prefix: netip.PrefixFrom(a, r.Subnet.Bits()), Gateway: r.Gateway})
	}
	if err := s.record(network, w.Key, addresses); err != nil {
		s.undo(network, w.Key, addresses)
		return nil, fmt.Errorf("record the leases of %s in network %s: %w", w.Key, network, err)
	}
	return leases, nil
}

// heldIndexed is held without the search through all leases, which would make
// every attachment pay for all others.
func (s *Store) heldIndexed(network string, k Key) ([]netip.Addr, bool, error) {
	if _, err := os.Lstat(s.indexFile(network, k)); err != nil {
		return nil, false, nil
	}
	return s.held(network, k)
}

// undo is best effort: what it leaves is found by GC.
func (s *Store) undo(network string, k Key, addresses []netip.Addr) {
	for _, a := range addresses {
		path := addressFile(s.leases(network), a)
		if who, err := readLease(path); err == nil && who == k {
			os.Remove(path)
		}
	}
	os.Remove(s.indexFile(network, k))
}

// demands sorts the demanded addresses to their sets.
func demands(network string, sets []Set, addresses []netip.Addr) ([]netip.Addr, error) {
	demanded := make([]netip.Addr, len(sets))
	for _, a := range addresses {
		a = a.Unmap().WithZone("")
		i := slices.IndexFunc(sets, func(s Set) bool {
			return slices.ContainsFunc(s, func(r Range) bool { return r.Subnet.Contains(a) })
		})
		if i < 0 {
			return nil, fault.Invalid("address %s is outside of network %s, which has %s", a, network, subnets(sets))
		}
		if demanded[i].IsValid() {
			return nil, fault.Invalid("addresses %s and %s are both of %s: only one can be had", demanded[i], a, sets[i].subnets())
		}
		demanded[i] = a
	}
	return demanded, nil
}

// choose finds the address of one set: the demanded one, a preferred one, or
// the next free one after the last that was given.
func (s *Store) choose(ctx context.Context, network string, n int, set Set, demanded netip.Addr, w Want) (netip.Addr, Range, error) {
	if demanded.IsValid() {
		r, err := s.demand(network, set, demanded, w)
		return demanded, r, err
	}
	for _, a := range w.Prefer {
		a = a.Unmap()
		for _, r := range set {
			if !r.Subnet.Contains(a) || r.usable(a) != nil {
				continue
			}
			if free, err := s.free(network, a, w); err != nil {
				return a, r, err
			} else if free {
				return a, r, nil
			}
		}
	}
	return s.next(ctx, network, n, set, w)
}

func (s *Store) demand(network string, set Set, a netip.Addr, w Want) (Range, error) {
	var r Range
	for _, r = range set {
		if r.Subnet.Contains(a) {
			break
		}
	}
	if err := r.usable(a); err != nil {
		return r, err
	}
	who, taken, err := s.holder(network, a)
	if err != nil {
		return r, err
	}
	if taken {
		return r, fault.Kind(fs.ErrExist, "address %s of network %s is in use by %s", a, network, who)
	}
	if w.Taken == nil {
		return r, nil
	}
	if promised, err := w.Taken(a); err != nil {
		return r, err
	} else if promised {
		return r, fault.Kind(fs.ErrExist, "address %s of network %s is promised to another container", a, network)
	}
	return r, nil
}

func (s *Store) free(network string, a netip.Addr, w Want) (bool, error) {
	if _, taken, err := s.holder(network, a); err != nil || taken {
		return false, err
	}
	if w.Taken == nil {
		return true, nil
	}
	promised, err := w.Taken(a)
	return !promised, err
}

// next goes round the set once, starting after the address that was given last,
// so that an address rests before it is used again.
func (s *Store) next(ctx context.Context, network string, n int, set Set, w Want) (netip.Addr, Range, error) {
	i, a := 0, set[0].Start
	if last, ok := s.lastReserved(network, n); ok {
		if j := slices.IndexFunc(set, func(r Range) bool { return r.contains(last) }); j >= 0 {
			i, a = after(set, j, last)
		}
	}
	for start := a; ; {
		if r := set[i]; r.usable(a) == nil {
			free, err := s.free(network, a, w)
			if err != nil {
				return a, r, err
			}
			if free {
				return a, r, s.setLastReserved(network, n, a)
			}
		}
		if err := ctx.Err(); err != nil {
			return a, Range{}, err
		}
		if i, a = after(set, i, a); a == start {
			return a, Range{}, fault.Kind(ErrExhausted, "network %s has no free address left in %s", network, set.ranges())
		}
	}
}

// after is the address after a, of range i, in the round.
func after(set Set, i int, a netip.Addr) (int, netip.Addr) {
	if a != set[i].End {
		return i, a.Next()
	}
	i = (i + 1) % len(set)
	return i, set[i].Start
}

func (s Set) ranges() string {
	var all []string
	for _, r := range s {
		all = append(all, fmt.Sprintf("%s-%s", r.Start, r.End))
	}
	return strings.Join(all, ", ")
}

func (s *Store) lastFile(network string, n int) string {
	return filepath.Join(s.leases(network), lastPrefix+strconv.Itoa(n))
}

// lastReserved is a hint only: what cannot be read starts at the beginning.
func (s *Store) lastReserved(network string, n int) (netip.Addr, bool) {
	data, err := os.ReadFile(s.lastFile(network, n))
	if err != nil {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(strings.TrimSpace(string(data)))
	return a.Unmap(), err == nil
}

func (s *Store) setLastReserved(network string, n int, a netip.Addr) error {
	return fault.Opaque(os.WriteFile(s.lastFile(network, n), []byte(a.String()), 0o600))
}
