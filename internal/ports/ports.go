// Package ports reserves published ports on the host by sockets that live as
// long as a container does.
//
// A bound socket is the one reservation that every process of a host respects,
// whether it knows of us or not. While the container runs the sockets also
// serve: the kernel's translation normally takes the traffic before they see
// any, which leaves [::1], IPv6 clients of a container without IPv6, and
// everything after somebody's "nft flush ruleset". Such traffic is copied to
// the container; it then comes from the host's address.
//
// A held port costs one descriptor and no goroutine: all sockets of a
// container wait in one epoll instance, itself in Go's poller.
package ports

import (
	"fmt"
	"io/fs"
	"net/netip"
	"strconv"

	"github.com/amphora-go/amphora/internal/fault"
)

// MaxHeld is the most ports for which Hold keeps sockets. Of more, each is
// still tried, but none is kept, so that a container with 10000 ports needs no
// 10000 descriptors: the translation rules alone serve them, and nothing
// reserves them against processes of the host.
const MaxHeld = 1000

// Want is a port to be published.
type Want struct {
	Protocol string // tcp, udp, sctp

	// Host is the address to listen at. Zero means every address of both
	// families, by one socket; 0.0.0.0 and :: mean one family.
	Host netip.Addr

	// Port is the number wanted. 0 asks for a free one out of the kernel's
	// range (net.ipv4.ip_local_port_range).
	Port uint16

	// PortEnd, when above Port, asks for the first free number of Port..PortEnd.
	PortEnd uint16

	Container uint16 // port in the container

	// Group ties wants together: all of one group other than 0 get the same
	// number, for a service that has one for TCP and UDP. They must agree in
	// Port and PortEnd.
	Group int
}

// Targets says where a container port can be reached, best first. It is called
// for every connection, from several goroutines, and must not call methods of
// Held.
type Targets func(container uint16, protocol string) []netip.AddrPort

// Conflict is the error for a port that something else holds. It Is both
// fs.ErrExist and fault.ErrInUse.
type Conflict struct {
	Protocol string
	Host     netip.Addr // as in Want
	Port     uint16
	PortEnd  uint16 // of a range without a free number
	PID      int    // the holder; 0: not visible from here
	Process  string // the holder's name, as in /proc/PID/comm
	Own      bool   // another want of the same call holds it
}

func (c *Conflict) Error() string {
	at := name(c.Protocol, c.Host, c.Port)
	switch {
	case c.PortEnd > c.Port:
		return fmt.Sprintf("no port of %s to %d is free: end the processes that hold them, or choose a wider range", at, c.PortEnd)
	case c.PortEnd == 0 && c.Port == 0:
		return fmt.Sprintf("no free port for %s in net.ipv4.ip_local_port_range: widen that range", at)
	case c.Own:
		return fmt.Sprintf("port %s is published twice by this container: remove one of the two", at)
	case c.PID != 0:
		return fmt.Sprintf("port %s is in use by process %d (%s): end it, or publish another port", at, c.PID, c.Process)
	}
	return fmt.Sprintf("port %s is in use by a process that cannot be seen from here (of another user or pid namespace): end it, or publish another port", at)
}

// Unwrap gives the kinds.
func (c *Conflict) Unwrap() []error { return []error{fs.ErrExist, fault.ErrInUse} }

// name writes a port as users do: "8080/tcp", "127.0.0.1:8080/tcp".
func name(protocol string, host netip.Addr, port uint16) string {
	if !host.IsValid() {
		return strconv.Itoa(int(port)) + "/" + protocol
	}
	return netip.AddrPortFrom(host, port).String() + "/" + protocol
}

// check refuses what no machine could give.
func check(wants []Want) error {
	for i, w := range wants {
		switch w.Protocol {
		case "tcp", "udp", "sctp":
		default:
			return fault.Invalid("protocol %q of a published port: use tcp, udp or sctp", w.Protocol)
		}
		if w.PortEnd != 0 && (w.PortEnd < w.Port || w.Port == 0) {
			return fault.Invalid("port range %d-%d: it must run from a number above 0 to one not below it", w.Port, w.PortEnd)
		}
		if w.Group == 0 {
			continue
		}
		for _, o := range wants[:i] {
			if o.Group == w.Group && (o.Port != w.Port || o.PortEnd != w.PortEnd) {
				return fault.Invalid("ports %d-%d and %d-%d are of one group, whose numbers must be the same", o.Port, o.PortEnd, w.Port, w.PortEnd)
			}
		}
	}
	return nil
}
