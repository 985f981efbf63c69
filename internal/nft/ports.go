package nft

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/amphora-go/amphora/internal/fault"
)

// maxOwner is what the kernel keeps with an element. The length of its copy, of
// the comment with a type, a length and a NUL, has 8 bits (struct
// nft_set_ext_tmpl): from 252 bytes on Linux 6.18 refuses or garbles it.
const maxOwner = 250

// protocols are the numbers of those that have ports.
var protocols = map[string]byte{"tcp": 6, "udp": 17, "sctp": 132}

func protocolName(n byte) string {
	for name, number := range protocols {
		if number == n {
			return name
		}
	}
	return fmt.Sprint(n)
}

// String is the port as it is published: "tcp 0.0.0.0:8080".
func (p Port) String() string {
	host := p.Host
	if !host.IsValid() {
		host = netip.IPv4Unspecified()
		if p.To.Addr().Is6() {
			host = netip.IPv6Unspecified()
		}
	}
	return p.Protocol + " " + netip.AddrPortFrom(host, p.HostPort).String()
}

// normal writes the port in its one form: addresses unmapped and without zone,
// "every address" as the zero Addr.
func (p Port) normal() (Port, error) {
	if protocols[p.Protocol] == 0 {
		return p, fault.Invalid("published port %d: protocol %q is none of tcp, udp, sctp", p.HostPort, p.Protocol)
	}
	if p.HostPort == 0 || p.To.Port() == 0 || !p.To.Addr().IsValid() {
		return p, fault.Invalid("published port %s to %s: needs a port of the host, and an address and port of the container", p, p.To)
	}
	p.To = netip.AddrPortFrom(p.To.Addr().Unmap().WithZone(""), p.To.Port())
	p.Host = p.Host.Unmap().WithZone("")
	if p.Host.IsValid() && p.Host.Is4() != p.To.Addr().Is4() {
		return p, fault.Invalid("published port %s to %s: an address of one family cannot be translated to the other", p, p.To)
	}
	if p.Host.IsValid() && p.Host.IsUnspecified() {
		p.Host = netip.Addr{}
	}
	return p, nil
}

// place is where a port is published: what two ports must not share.
type place struct {
	host     netip.Addr
	v6       bool
	protocol string
	port     uint16
}

func (p Port) place() place {
	return place{host: p.Host, v6: p.To.Addr().Is6(), protocol: p.Protocol, port: p.HostPort}
}

// normalPorts is ports in normal form, each once.
func normalPorts(ports []Port) ([]Port, error) {
	out := make([]Port, 0, len(ports))
	seen := make(map[place]Port, len(ports))
	for _, p := range ports {
		p, err := p.normal()
		if err != nil {
			return nil, err
		}
		if old, ok := seen[p.place()]; ok {
			if old != p {
				return nil, fault.Invalid("port %s is asked for twice, to %s and to %s", p, old.To, p.To)
			}
			continue
		}
		seen[p.place()] = p
		out = append(out, p)
	}
	return out, nil
}

func sortPorts(ports []Port) {
	slices.SortFunc(ports, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.HostPort, b.HostPort), cmp.Compare(a.Protocol, b.Protocol),
			a.Host.Compare(b.Host), a.To.Compare(b.To))
	})
}

func checkOwner(owner string) error {
	if owner == "" || len(owner) > maxOwner {
		return fault.Invalid("owner %q of published ports has %d bytes: 1 to %d fit", owner, len(owner), maxOwner)
	}
	return nil
}

// check refuses what would make rules that match other things than meant.
func (b Bridge) check() error {
	if b.Name == "" || len(b.Name) > 15 {
		return fault.Invalid("bridge %q: the name of an interface has 1 to 15 bytes", b.Name)
	}
	for _, s := range b.Subnets {
		if !s.IsValid() || s.Bits() == 0 {
			return fault.Invalid("bridge %s: %s is no subnet", b.Name, s)
		}
	}
	return nil
}
