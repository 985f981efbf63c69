package network

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
)

// AllHosts is the Host of a port that is published on every address of the
// host, of both families.
const AllHosts = "*"

// Port is a published port: what arrives at HostPort of the host goes to
// Container of the container.
type Port struct {
	Container uint16 `json:"container"`
	Protocol  string `json:"protocol,omitempty"` // "tcp" (default), "udp", "sctp"
	// Host is the address to listen on. Empty: 127.0.0.1. "0.0.0.0" and "::"
	// are all addresses of a family, AllHosts all of both.
	Host string `json:"host,omitempty"`
	// HostPort 0 is any free port, known from Start on and nobody else's.
	HostPort uint16 `json:"hostPort,omitempty"`
	// HostEnd makes a range of HostPort: the first free one of it is taken.
	HostEnd uint16 `json:"hostEnd,omitempty"`
}

// String is the port in the form that ParsePort reads.
func (p Port) String() string {
	var b strings.Builder
	switch {
	case p.Host == AllHosts:
	case p.Host == "":
		b.WriteString("127.0.0.1:")
	case strings.Contains(p.Host, ":"):
		fmt.Fprintf(&b, "[%s]:", p.Host)
	default:
		b.WriteString(p.Host + ":")
	}
	if p.HostPort > 0 {
		fmt.Fprint(&b, p.HostPort)
		if p.HostEnd > p.HostPort {
			fmt.Fprintf(&b, "-%d", p.HostEnd)
		}
	}
	if b.Len() > 0 {
		b.WriteByte(':')
	}
	fmt.Fprint(&b, p.Container)
	if p.Protocol != "" && p.Protocol != "tcp" {
		b.WriteString("/" + p.Protocol)
	}
	return b.String()
}

// Validate checks the port without looking at the machine.
func (p Port) Validate() error {
	_, err := p.Record()
	return err
}

// Record is the port as a container's record has it. Programs have no use for
// it.
func (p Port) Record() (record.Port, error) {
	r := record.Port{Protocol: p.Protocol, HostPort: p.HostPort, HostEnd: p.HostEnd, Container: p.Container}
	switch p.Protocol {
	case "":
		r.Protocol = "tcp"
	case "tcp", "udp", "sctp":
	default:
		return r, fault.Invalid("published port %s: unknown protocol %q: use tcp, udp or sctp", p, p.Protocol)
	}
	if p.Container == 0 {
		return r, fault.Invalid("published port %s: give the container's port, 1 to 65535", p)
	}
	if p.HostEnd != 0 && (p.HostPort == 0 || p.HostEnd < p.HostPort) {
		return r, fault.Invalid("published port %s: the range of host ports ends before it begins", p)
	}
	switch p.Host {
	case AllHosts:
	case "":
		r.Host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	default:
		a, err := netip.ParseAddr(strings.Trim(p.Host, "[]"))
		if err != nil {
			return r, fault.Invalid("published port %s: %q is no IP address: give one of the host's, or none", p, p.Host)
		}
		r.Host = a
	}
	return r, nil
}

// ParsePort reads Docker's -p: [[ADDRESS:][HOSTPORT[-END]]:]PORT[-END][/PROTOCOL].
// No address means all of the host's. A range of the container's ports needs
// one of the host of the same length, or none.
func ParsePort(s string) ([]Port, error) {
	bad := func(why string, arg ...any) ([]Port, error) {
		return nil, fault.Invalid("published port %q: %s; write [[ADDRESS:]HOSTPORT:]PORT[/PROTOCOL]", s, fmt.Sprintf(why, arg...))
	}
	rest, proto, found := strings.Cut(s, "/")
	if found && proto != "tcp" && proto != "udp" && proto != "sctp" {
		return bad("unknown protocol %q", proto)
	}
	host, hostPorts, inner := "", "", rest
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		inner, hostPorts = rest[i+1:], rest[:i]
		if i := strings.LastIndexByte(hostPorts, ':'); i >= 0 {
			host, hostPorts = hostPorts[:i], hostPorts[i+1:]
			if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err != nil {
				return bad("%q is no IP address", host)
			}
		}
	}
	first, last, err := portRange(inner)
	if err != nil {
		return bad("container port %v", err)
	}
	p := Port{Protocol: proto, Host: strings.Trim(host, "[]")}
	if host == "" {
		p.Host = AllHosts
	}
	if hostPorts == "" {
		return each(p, first, last, func(*Port, uint16) {}), nil
	}
	hostFirst, hostLast, err := portRange(hostPorts)
	if err != nil {
		return bad("host port %v", err)
	}
	switch {
	case first == last:
		p.HostPort, p.Container = hostFirst, first
		if hostLast > hostFirst {
			p.HostEnd = hostLast
		}
		return []Port{p}, nil
	case hostLast-hostFirst != last-first:
		return bad("the ranges of host and container differ in length")
	}
	return each(p, first, last, func(p *Port, i uint16) { p.HostPort = hostFirst + i }), nil
}

func each(p Port, first, last uint16, set func(p *Port, i uint16)) []Port {
	var all []Port
	for i := 0; i <= int(last)-int(first); i++ {
		q := p
		q.Container = first + uint16(i)
		set(&q, uint16(i))
		all = append(all, q)
	}
	return all
}

func portRange(s string) (first, last uint16, err error) {
	a, b, found := strings.Cut(s, "-")
	n, err := strconv.ParseUint(a, 10, 16)
	if err != nil || n == 0 {
		return 0, 0, fmt.Errorf("%q: give 1 to 65535", a)
	}
	m := n
	if found {
		if m, err = strconv.ParseUint(b, 10, 16); err != nil || m < n {
			return 0, 0, fmt.Errorf("range %q", s)
		}
	}
	return uint16(n), uint16(m), nil
}
