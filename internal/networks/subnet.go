package networks

import (
	"context"
	"crypto/sha256"
	"net/netip"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
)

// defaultPools are where subnets are chosen from if the Root's settings do not
// say otherwise: a range that neither Docker nor podman nor libvirt takes by
// itself.
var defaultPools = []record.Pool{{Base: netip.MustParsePrefix("10.210.0.0/16"), Size: 24}}

// choose adds what is missing to the given subnets: one of IPv4, and of IPv6
// if wanted. It steps round every route of the machine and every other network
// of this Root.
func (s *Store) choose(ctx context.Context, given []Subnet, v6 bool) ([]Subnet, error) {
	has4, has6 := false, false
	for _, g := range given {
		has4, has6 = has4 || g.Prefix.Addr().Is4(), has6 || g.Prefix.Addr().Is6()
	}
	taken, err := routes()
	if err != nil {
		return nil, err
	}
	all, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range all {
		for _, sub := range n.Subnets {
			taken = append(taken, sub.Prefix)
		}
	}
	set, err := s.root.Settings()
	if err != nil {
		return nil, err
	}
	pools := set.Pools
	if len(pools) == 0 {
		pools = defaultPools
	}
	if !has4 {
		p, err := pick(pools, taken, true)
		if err != nil {
			return nil, err
		}
		given = append(given, Subnet{Prefix: p})
	}
	if v6 && !has6 {
		// Prefixes of one's own are random (RFC 4193), and stay the same for a
		// Root: its id is random.
		p, err := pick(append(pools, record.Pool{Base: ula(s.root.ID), Size: 64}), taken, false)
		if err != nil {
			return nil, err
		}
		given = append(given, Subnet{Prefix: p})
	}
	return given, nil
}

// ula is the /48 of a Root.
func ula(id string) netip.Prefix {
	sum := sha256.Sum256([]byte("amphora ula\x00" + id))
	b := [16]byte{0: 0xfd}
	copy(b[1:6], sum[:])
	return netip.PrefixFrom(netip.AddrFrom16(b), 48)
}

// pick returns the first free subnet of one family.
func pick(pools []record.Pool, taken []netip.Prefix, v4 bool) (netip.Prefix, error) {
	var tried []string
	for _, pool := range pools {
		if pool.Base.Addr().Is4() != v4 {
			continue
		}
		tried = append(tried, pool.Base.String())
		for p := netip.PrefixFrom(pool.Base.Addr(), pool.Size).Masked(); pool.Base.Contains(p.Addr()); {
			obstacle, free := netip.Prefix{}, true
			for _, t := range taken {
				if t.Overlaps(p) {
					obstacle, free = t, false
					break
				}
			}
			if free {
				return p, nil
			}
			after := last(p)
			if obstacle.Bits() < p.Bits() { // step over all of it
				after = last(obstacle)
			}
			if p = netip.PrefixFrom(after.Next(), pool.Size).Masked(); !p.IsValid() || !p.Addr().IsValid() {
				break
			}
		}
	}
	family := map[bool]string{true: "IPv4", false: "IPv6"}[v4]
	if len(tried) == 0 {
		return netip.Prefix{}, fault.Invalid("no address pool is of %s: give a subnet, or configure a pool", family)
	}
	return netip.Prefix{}, fault.Invalid("every %s subnet of %s is taken by a network or a route of this machine: remove unused networks, configure another address pool, or give a subnet",
		family, strings.Join(tried, ", "))
}

// subnetLock is the abstract address that whoever chooses subnets in a network
// namespace binds: the kernel keeps those names for each namespace.
const subnetLock = "@amphora-subnets"
