package nft

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/google/nftables"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/step"
)

var errExist = fs.ErrExist

// AddPorts publishes ports for owner, "network/id/ifname", all or none. The
// same again changes nothing. A port that another owner has is an error of the
// kind fs.ErrExist that names both; a port on every address and one on a single
// address of the host do not conflict, the single address goes first.
//
// Entries that connection tracking has for the UDP ports are dropped, as a
// client that was heard before publication would never get through.
func (t *Table) AddPorts(owner string, ports []Port) error {
	if err := checkOwner(owner); err != nil {
		return err
	}
	ports, err := normalPorts(ports)
	if err != nil || len(ports) == 0 {
		return err
	}
	// The holder may be gone before it is looked for: then the place is free.
	for range 5 {
		err = t.apply(func(b *batch, s *sets) {
			for m, elems := range s.elements(owner, ports) {
				b.add(m, elems...)
			}
		})
		if !exists(err) {
			break
		}
		owned, oerr := t.owned()
		if oerr != nil {
			return t.op("find the holder of a published port", oerr)
		}
		if conflict := taken(ports, owned); conflict != nil {
			return conflict
		}
	}
	if err != nil {
		return t.op("publish ports for "+owner, err)
	}
	step.At("nft.ports.published")
	return t.flushUDP(ports, true)
}

// taken is the error for the first port that is published to another place.
func taken(ports []Port, owned []ownedPort) error {
	held := make(map[place]ownedPort, len(owned))
	for _, o := range owned {
		held[o.place()] = o
	}
	for _, p := range ports {
		if o, ok := held[p.place()]; ok && o.To != p.To {
			return fault.Kind(errExist, "port %s is published already, by %s to %s: choose another port of the host or stop that container", p, o.owner, o.To)
		}
	}
	return nil
}

// RemovePorts takes ports of owner back in one transaction; nil are all of it.
// Ports that are not there, or are another's by now, are no error. It takes
// some 10 ms, as the kernel waits until no packet uses what is deleted.
func (t *Table) RemovePorts(owner string, ports []Port) error {
	if err := checkOwner(owner); err != nil {
		return err
	}
	all := ports == nil
	ports, err := normalPorts(ports)
	if err != nil {
		return err
	}
	if all {
		ports, err = t.portsOf(owner, nil)
	}
	if err != nil {
		return t.op("find published ports of "+owner, err)
	}
	err = t.removePorts(owner, ports)
	if exists(err) {
		// One of them leads elsewhere, so it is not ours: see what is.
		if ports, err = t.portsOf(owner, ports); err == nil {
			err = t.removePorts(owner, ports)
		}
	}
	if err != nil {
		return t.op("take back ports of "+owner, err)
	}
	step.At("nft.ports.removed")
	return t.flushUDP(ports, false)
}

func (t *Table) removePorts(owner string, ports []Port) error {
	if len(ports) == 0 {
		return nil
	}
	s := t.sets()
	b := newBatch(t.NetNS, s.table)
	if b.err == nil {
		for m, elems := range s.elements(owner, ports) {
			b.remove(m, elems...)
		}
	}
	if err := b.send(); err != nil && !absent(err) {
		return err
	}
	return nil
}

// portsOf reads the ports of an owner, those among some if that is not nil.
func (t *Table) portsOf(owner string, some []Port) ([]Port, error) {
	owned, err := t.owned()
	var ports []Port
	for _, o := range owned {
		if o.owner == owner && (some == nil || slices.Contains(some, o.Port)) {
			ports = append(ports, o.Port)
		}
	}
	return ports, err
}

// Owners are all published ports of this Root, by owner. Without a table there
// are none.
func (t *Table) Owners() (map[string][]Port, error) {
	owned, err := t.owned()
	if err != nil {
		return nil, t.op("read published ports", err)
	}
	owners := make(map[string][]Port)
	for _, o := range owned {
		owners[o.owner] = append(owners[o.owner], o.Port)
	}
	for _, ports := range owners {
		sortPorts(ports)
	}
	return owners, nil
}

// elements are the ports as elements of the maps they belong to.
func (s *sets) elements(owner string, ports []Port) map[*nftables.Set][]nftables.SetElement {
	byMap := make(map[*nftables.Set][]nftables.SetElement, 4)
	for _, p := range ports {
		m, key := s.any[family(p.To.Addr())], []byte(nil)
		if p.Host.IsValid() {
			m, key = s.host[family(p.Host)], p.Host.AsSlice()
		}
		// Each part of a concatenation is padded to 4 bytes.
		key = append(key, protocols[p.Protocol], 0, 0, 0)
		key = append(binary.BigEndian.AppendUint16(key, p.HostPort), 0, 0)
		to := append(binary.BigEndian.AppendUint16(p.To.Addr().AsSlice(), p.To.Port()), 0, 0)
		byMap[m] = append(byMap[m], nftables.SetElement{Key: key, Val: to, Comment: owner})
	}
	return byMap
}

// port is the reverse of elements.
func port(key, val []byte) (Port, error) {
	n := len(key) - 8 // of the host's address
	if (n != 0 && n != 4 && n != 16) || (len(val) != 8 && len(val) != 20) {
		return Port{}, fmt.Errorf("element %x : %x is no published port", key, val)
	}
	host, _ := netip.AddrFromSlice(key[:n])
	to, _ := netip.AddrFromSlice(val[:len(val)-4])
	return Port{
		Protocol: protocolName(key[n]), Host: host, HostPort: binary.BigEndian.Uint16(key[n+4:]),
		To: netip.AddrPortFrom(to, binary.BigEndian.Uint16(val[len(val)-4:])),
	}, nil
}
