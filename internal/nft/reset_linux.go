package nft

import (
	"errors"
	"maps"
	"slices"
	"syscall"

	"github.com/amphora-go/amphora/internal/fault"
)

// Reset writes the whole table anew in one transaction, with these networks and
// published ports and no others: what a flush, a foreign hand or another
// version left makes no difference, and no packet sees a state between. Only
// Seal stays as it is, if it is there to be seen.
//
// It is an error of the kind fs.ErrExist when two of the ports are the same.
func (t *Table) Reset(bridges []Bridge, ports map[string][]Port) error {
	for _, br := range bridges {
		if err := br.check(); err != nil {
			return err
		}
	}
	ports = maps.Clone(ports)
	var seen []ownedPort
	for _, owner := range slices.Sorted(maps.Keys(ports)) {
		some, err := normalPorts(ports[owner])
		if err == nil {
			err = checkOwner(owner)
		}
		if err == nil {
			err = taken(some, seen)
		}
		if err != nil {
			return err
		}
		ports[owner] = some
		for _, p := range some {
			seen = append(seen, ownedPort{Port: p, owner: owner})
		}
	}
	sealed, err := t.sealed()
	if err != nil {
		return t.op("reset", err)
	}
	s := t.sets()
	b := newBatch(t.NetNS, s.table)
	if b.err != nil {
		return t.op("reset", b.err)
	}
	b.conn.AddTable(s.table)
	b.conn.DelTable(s.table)
	t.writeBase(b, s)
	if sealed {
		b.chain(seal())
	}
	for _, br := range bridges {
		s.bridge(br, b.add)
	}
	for owner, some := range ports {
		for m, elems := range s.elements(owner, some) {
			b.add(m, elems...)
		}
	}
	err = b.send()
	if exists(err) {
		return fault.Kind(errExist, "nftables table %s: reset: subnets of two networks overlap", t.Name)
	}
	if errors.Is(err, syscall.ENOENT) {
		err = t.lacking(err)
	}
	return t.op("reset", err)
}
