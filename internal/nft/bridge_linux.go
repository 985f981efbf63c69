package nft

import (
	"net/netip"

	"github.com/google/nftables"

	"github.com/amphora-go/amphora/internal/fault"
)

// AddBridge lets the filter know a network; its bridge need not exist yet. The
// same again changes nothing, so it is called before each attachment, and also
// mends a table that somebody flushed. It only adds: to change what is known of
// a bridge call RemoveBridge first.
//
// A subnet that overlaps one of another bridge is refused with fs.ErrExist.
func (t *Table) AddBridge(br Bridge) error {
	if err := br.check(); err != nil {
		return err
	}
	err := t.apply(func(b *batch, s *sets) { s.bridge(br, b.add) })
	if exists(err) {
		return fault.Kind(errExist, "bridge %s: a subnet of %v overlaps that of another network of this Root", br.Name, br.Subnets)
	}
	return t.op("add bridge "+br.Name, err)
}

// RemoveBridge forgets a network. One that is not known is no error.
func (t *Table) RemoveBridge(br Bridge) error {
	if err := br.check(); err != nil {
		return err
	}
	s := t.sets()
	b := newBatch(t.NetNS, s.table)
	if b.err == nil {
		// From all sets, also those that this Bridge would not be in: it may have
		// been added otherwise.
		br.Masquerade, br.Internal, br.Open = true, true, true
		s.bridge(br, b.remove)
	}
	err := b.send()
	if absent(err) {
		return nil
	}
	return t.op("remove bridge "+br.Name, err)
}

// bridge calls do for each element that a bridge has.
func (s *sets) bridge(br Bridge, do func(*nftables.Set, ...nftables.SetElement)) {
	name := nftables.SetElement{Key: ifname(br.Name)}
	do(s.bridges, name)
	do(s.pairs, nftables.SetElement{Key: append(ifname(br.Name), ifname(br.Name)...)})
	if br.Open {
		do(s.open, name)
	}
	if br.Internal {
		do(s.internal, name)
	}
	for _, p := range br.Subnets {
		f := family(p.Addr())
		do(s.nets[f], interval(p)...)
		if br.Masquerade {
			do(s.masq[f], interval(p)...)
		}
	}
}

// interval is a prefix as the elements of an interval set: its first address,
// and the first after it as an end. A prefix that reaches the last address has
// no end.
func interval(p netip.Prefix) []nftables.SetElement {
	p = p.Masked()
	first := p.Addr().AsSlice()
	elems := []nftables.SetElement{{Key: first}}
	end := p.Addr().AsSlice()
	for i := p.Bits(); i < len(end)*8; i++ {
		end[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(end)
	if next := last.Next(); next.IsValid() {
		elems = append(elems, nftables.SetElement{Key: next.AsSlice(), IntervalEnd: true})
	}
	return elems
}
