package ports

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"sync"

	"github.com/amphora-go/amphora/internal/attachment"
	"github.com/amphora-go/amphora/internal/fault"
	"golang.org/x/sys/unix"
)

// Held is a set of reserved ports. Its methods are safe for concurrent use.
type Held struct {
	mu     sync.Mutex
	ports  []port
	server *server // made by the first Serve
	closed bool

	taken map[key][]int // while Hold runs: ports by number, to find clashes among the wants
}

type key struct {
	protocol string
	number   uint16
}

type port struct {
	want   Want
	number uint16
	fd     int32 // -1: not held
	ready  bool  // served now
}

// randomTries bounds the search for a random port: between the kernel's choice
// and our bind an outgoing connection may take it, and a group needs one that
// is free everywhere.
const randomTries = 128

// Hold binds all wants, or none and returns an error. TCP sockets do not
// listen yet, UDP sockets drop what arrives: see Serve. The sockets belong to
// the caller's network namespace.
//
// Errors: a *Conflict names the port and its holder; fs.ErrInvalid for a host
// address that this machine does not have; a privilege error for a port below
// net.ipv4.ip_unprivileged_port_start. SCTP ports are not held (Bound says so)
// where the kernel has no SCTP sockets.
func Hold(ctx context.Context, wants []Want) (*Held, error) {
	if err := check(wants); err != nil {
		return nil, err
	}
	h := &Held{ports: make([]port, len(wants)), taken: make(map[key][]int)}
	for i := range wants {
		h.ports[i] = port{want: wants[i], fd: -1}
		h.ports[i].want.Host = wants[i].Host.Unmap()
	}
	// Numbers that are demanded come before those that are chosen, lest a
	// choice take a demanded one.
	for _, class := range []func(*Want) bool{fixed, ranged, random} {
		for i := range h.ports {
			w := &h.ports[i].want
			if !class(w) || h.ports[i].number != 0 {
				continue
			}
			err := ctx.Err()
			if err == nil {
				err = h.take(ctx, h.group(i))
			}
			if err != nil {
				h.release()
				return nil, err
			}
		}
	}
	h.taken = nil
	return h, nil
}

func fixed(w *Want) bool  { return w.Port != 0 && w.PortEnd <= w.Port }
func ranged(w *Want) bool { return w.PortEnd > w.Port }
func random(w *Want) bool { return w.Port == 0 }

// group returns the indices of all ports that must have the number of port i.
func (h *Held) group(i int) []int {
	g := h.ports[i].want.Group
	if g == 0 {
		return []int{i}
	}
	var all []int
	for k := range h.ports {
		if h.ports[k].want.Group == g {
			all = append(all, k)
		}
	}
	return all
}

// take finds a number for the ports of one group and binds them.
func (h *Held) take(ctx context.Context, group []int) error {
	w := &h.ports[group[0]].want
	switch {
	case fixed(w):
		return h.bind(group, w.Port)
	case ranged(w):
		for n := int(w.Port); n <= int(w.PortEnd); n++ {
			if err := h.bind(group, uint16(n)); !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
		return &Conflict{Protocol: w.Protocol, Host: w.Host, Port: w.Port, PortEnd: w.PortEnd}
	}
	for range randomTries {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := pick(w.Protocol, w.Host)
		if err != nil {
			return err
		}
		if err := h.bind(group, n); !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return &Conflict{Protocol: w.Protocol, Host: w.Host}
}

// bind binds all ports of a group to one number, or none.
func (h *Held) bind(group []int, number uint16) error {
	var err error
	done := 0
	for _, i := range group {
		p := &h.ports[i]
		if h.clashes(i, number) {
			err = &Conflict{Protocol: p.want.Protocol, Host: p.want.Host, Port: number, Own: true}
			break
		}
		var fd int
		fd, err = open(p.want.Protocol, p.want.Host, number)
		if err != nil {
			err = explain(err, &p.want, number)
			break
		}
		if fd >= 0 && len(h.ports) > MaxHeld {
			unix.Close(fd)
			fd = -1
		}
		p.fd, p.number = int32(fd), number
		k := key{p.want.Protocol, number}
		h.taken[k] = append(h.taken[k], i)
		done++
	}
	if err == nil {
		return nil
	}
	for _, i := range group[:done] {
		h.ports[i].drop()
	}
	return err
}

// clashes reports whether another want of this call has the number already.
// The kernel tells for sockets that are held; this tells for the others too.
func (h *Held) clashes(i int, number uint16) bool {
	w := &h.ports[i].want
	for _, k := range h.taken[key{w.Protocol, number}] {
		o := &h.ports[k]
		if o.number == number && overlap(o.want.Host, w.Host) { // else given up again
			return true
		}
	}
	return false
}

// overlap reports whether sockets at both addresses would meet.
func overlap(a, b netip.Addr) bool {
	if !a.IsValid() || !b.IsValid() {
		return true
	}
	return a.Is4() == b.Is4() && (a == b || a.IsUnspecified() || b.IsUnspecified())
}

func (p *port) drop() {
	if p.fd >= 0 {
		unix.Close(int(p.fd))
	}
	p.fd, p.number, p.ready = -1, 0, false
}

func (h *Held) release() {
	for i := range h.ports {
		h.ports[i].drop()
	}
}

// Bound returns the ports in the order of the wants, all numbers known. Held is
// false for those that no socket reserves (see MaxHeld, and SCTP).
func (h *Held) Bound() []attachment.Port {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]attachment.Port, len(h.ports))
	for i, p := range h.ports {
		all[i] = attachment.Port{Protocol: p.want.Protocol, Host: p.want.Host, HostPort: p.number, Container: p.want.Container, Held: p.fd >= 0}
	}
	return all
}

// Close ends all copying and gives the ports back. It is idempotent, and
// returns when nothing of this set is left.
func (h *Held) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	h.closed = true
	if h.server != nil {
		h.server.close()
	}
	for i := range h.ports { // numbers stay known to Bound
		if fd := h.ports[i].fd; fd >= 0 {
			unix.Close(int(fd))
			h.ports[i].fd, h.ports[i].ready = -1, false
		}
	}
	return nil
}

// explain turns the errno of a bind into an error for people.
func explain(err error, w *Want, number uint16) error {
	at := name(w.Protocol, w.Host, number)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		c := &Conflict{Protocol: w.Protocol, Host: w.Host, Port: number}
		if fixed(w) { // of a range or a random choice nobody asks
			c.PID, c.Process = holder(w.Protocol, w.Host, number)
		}
		return c
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fault.Privilege("publish port %s: ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE: choose a higher one, or lower that sysctl", at)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fault.Invalid("publish port %s: this machine has no address %s", at, w.Host)
	case errors.Is(err, unix.EAFNOSUPPORT):
		return fault.Unsupported("publish port %s: this machine has no IPv6", at)
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return fault.Opaque(errors.Join(errors.New("publish port "+at+": no descriptor is left: raise the limit of open files"), err))
	}
	return fault.Opaque(errors.Join(errors.New("publish port "+at), err))
}
