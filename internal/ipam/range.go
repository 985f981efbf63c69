package ipam

import (
	"net/netip"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
)

// Range is a part of a subnet from which addresses are given. Zero Start, End
// and Gateway mean the first and last usable address and the first one.
type Range struct {
	Subnet              netip.Prefix
	Start, End, Gateway netip.Addr
}

// Set is ranges of one family, tried in order. An attachment gets one address
// of each set.
type Set []Range

// Canonical fills in the defaults of a range and says what is wrong with it.
func (r Range) Canonical() (Range, error) {
	if !r.Subnet.IsValid() {
		return r, fault.Invalid("an address range needs a subnet")
	}
	if masked := r.Subnet.Masked(); masked != r.Subnet {
		return r, fault.Invalid("subnet %s has host bits set: say %s", r.Subnet, masked)
	}
	if r.Subnet.Bits() > r.Subnet.Addr().BitLen()-2 {
		return r, fault.Invalid("subnet %s is too small: a network needs two address bits", r.Subnet)
	}
	first, end := r.Subnet.Addr().Next(), last(r.Subnet)
	if r.Subnet.Addr().Is4() {
		end = end.Prev() // broadcast
	}
	for _, d := range []struct {
		what  string
		value *netip.Addr
		def   netip.Addr
	}{{"start of range", &r.Start, first}, {"end of range", &r.End, end}, {"gateway", &r.Gateway, first}} {
		if !d.value.IsValid() {
			*d.value = d.def
		}
		*d.value = d.value.Unmap()
		if !r.Subnet.Contains(*d.value) {
			return r, fault.Invalid("%s %s is not in subnet %s", d.what, *d.value, r.Subnet)
		}
	}
	if r.End.Less(r.Start) {
		return r, fault.Invalid("range %s-%s of subnet %s ends before it starts", r.Start, r.End, r.Subnet)
	}
	return r, nil
}

// last is the highest address of a subnet.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func (r Range) contains(a netip.Addr) bool { return !a.Less(r.Start) && !r.End.Less(a) }

// usable says whether a may be asked for: all of the subnet's hosts, also those
// outside Start and End, which bound only what is chosen.
func (r Range) usable(a netip.Addr) error {
	switch {
	case a == r.Gateway:
		return fault.Invalid("address %s is the gateway of subnet %s", a, r.Subnet)
	case a == r.Subnet.Addr():
		return fault.Invalid("address %s is subnet %s itself", a, r.Subnet)
	case a.Is4() && a == last(r.Subnet):
		return fault.Invalid("address %s is the broadcast address of subnet %s", a, r.Subnet)
	}
	return nil
}

func (s Set) is4() bool { return s[0].Subnet.Addr().Is4() }

// canonical checks the ranges of a set together.
func (s Set) canonical() (Set, error) {
	if len(s) == 0 {
		return nil, fault.Invalid("a set of address ranges is empty")
	}
	all := make(Set, len(s))
	for i, r := range s {
		c, err := r.Canonical()
		if err != nil {
			return nil, err
		}
		if c.Subnet.Addr().Is4() != s.is4() {
			return nil, fault.Invalid("ranges of %s and %s are of different families and stand in one set", s[0].Subnet, c.Subnet)
		}
		all[i] = c
	}
	return all, nil
}

// Canonical checks the sets of a network.
func Canonical(sets []Set) ([]Set, error) {
	if len(sets) == 0 {
		return nil, fault.Invalid("host-local needs at least one address range")
	}
	all := make([]Set, len(sets))
	for i, s := range sets {
		c, err := s.canonical()
		if err != nil {
			return nil, err
		}
		for _, other := range all[:i] {
			for _, a := range c {
				for _, b := range other {
					if a.Subnet.Overlaps(b.Subnet) {
						return nil, fault.Invalid("subnets %s and %s of two range sets overlap", b.Subnet, a.Subnet)
					}
				}
			}
		}
		all[i] = c
	}
	return all, nil
}

func (s Set) subnets() string {
	var all []string
	for i, r := range s {
		if i == 0 || r.Subnet != s[i-1].Subnet {
			all = append(all, r.Subnet.String())
		}
	}
	return strings.Join(all, ", ")
}

func subnets(sets []Set) string {
	var all []string
	for _, s := range sets {
		all = append(all, s.subnets())
	}
	return strings.Join(all, ", ")
}
