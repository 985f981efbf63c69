package nft

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"golang.org/x/sys/unix"
)

// schema is the name of the marker set: a steady-state transaction adds its one
// element, and so fails when the base was never written, was flushed, or is
// that of another version. Change it with anything in this file or in
// rules_linux.go.
const schema = "schema_1"

// sets are the sets and maps of a table. The values belong to one batch: the
// library would number those without an ID from a counter that is not locked,
// and an ID must differ from others in its batch only.
type sets struct {
	table  *nftables.Table
	marker *nftables.Set

	bridges, pairs, open, internal *nftables.Set // by interface
	nets, masq                     [2]*nftables.Set
	any, host                      [2]*nftables.Set // published on every address, on one
}

// The two families, as indexes.
const (
	v4 = iota
	v6
)

func (t *Table) sets() *sets {
	s := &sets{table: t.inet()}
	addr := [2]nftables.SetDatatype{nftables.TypeIPAddr, nftables.TypeIP6Addr}
	service := concat(nftables.TypeInetProto, nftables.TypeInetService)
	s.marker = &nftables.Set{Name: schema, KeyType: nftables.TypeInetProto}
	// nft shows "" instead of names unless it is told their byte order.
	s.bridges = &nftables.Set{Name: "bridges", KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian}
	s.pairs = &nftables.Set{Name: "pairs", KeyType: concat(nftables.TypeIFName, nftables.TypeIFName)}
	s.open = &nftables.Set{Name: "open", KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian}
	s.internal = &nftables.Set{Name: "internal", KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian}
	for f, n := range []string{"4", "6"} {
		s.nets[f] = &nftables.Set{Name: "nets" + n, KeyType: addr[f], Interval: true}
		s.masq[f] = &nftables.Set{Name: "masq" + n, KeyType: addr[f], Interval: true}
		to := concat(addr[f], nftables.TypeInetService)
		s.any[f] = &nftables.Set{Name: "any" + n, IsMap: true, KeyType: service, DataType: to}
		s.host[f] = &nftables.Set{Name: "host" + n, IsMap: true, DataType: to,
			KeyType: concat(addr[f], nftables.TypeInetProto, nftables.TypeInetService)}
	}
	for i, set := range s.all() {
		set.Table, set.ID = s.table, uint32(i+1)
	}
	return s
}

func concat(types ...nftables.SetDatatype) nftables.SetDatatype {
	return nftables.MustConcatSetType(types...)
}

func (s *sets) all() []*nftables.Set {
	return append([]*nftables.Set{s.marker, s.bridges, s.pairs, s.open, s.internal,
		s.nets[v4], s.nets[v6], s.masq[v4], s.masq[v6]}, s.maps()...)
}

// maps are those of published ports.
func (s *sets) maps() []*nftables.Set {
	return []*nftables.Set{s.any[v4], s.any[v6], s.host[v4], s.host[v6]}
}

func markerElement() nftables.SetElement {
	return nftables.SetElement{Key: []byte{unix.IPPROTO_ICMP}}
}

// writeBase makes the table, its sets and its chains, or mends them: what
// exists stays, elements included, and the rules of each chain are replaced.
func (t *Table) writeBase(b *batch, s *sets) {
	b.conn.AddTable(s.table)
	for _, set := range s.all() {
		if b.err == nil {
			b.err = b.conn.AddSet(set, nil)
		}
	}
	for _, c := range chains(s) {
		b.chain(c)
	}
	b.add(s.marker, markerElement())
}

// chain adds a chain and replaces its rules.
func (b *batch) chain(c chain) {
	nc := &nftables.Chain{Name: c.name, Table: b.table}
	if c.kind != "" {
		accept := nftables.ChainPolicyAccept
		nc.Type, nc.Hooknum, nc.Priority, nc.Policy = c.kind, c.hook, nftables.ChainPriorityRef(c.priority), &accept
	}
	b.conn.AddChain(nc)
	b.conn.FlushChain(nc)
	for _, r := range c.rules {
		b.conn.AddRule(&nftables.Rule{Table: b.table, Chain: nc, Exprs: r})
	}
}

// family is the index of an address's family.
func family(a netip.Addr) int {
	if a.Is4() {
		return v4
	}
	return v6
}

// ifname is the key of an interface: 16 bytes, NUL-padded.
func ifname(name string) []byte {
	key := make([]byte, unix.IFNAMSIZ)
	copy(key, name)
	return key
}
