package ports

import (
	"errors"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// How TCP ports are reserved, and why so.
//
// Linux lets two sockets that both have SO_REUSEADDR bind the same port as long
// as neither listens, and remembers in the port's bucket that this was so
// (clearing the option afterwards does not clear that memory; a listen, or a
// bind without the option, does). A reservation must therefore bind without it.
// But without it a bind fails for a minute after connections of an earlier
// socket at the port were closed (TIME_WAIT), and a second listen after Pause
// fails as well. So:
//
//   - bind without the option: that is the reservation, exclusive from the start;
//   - if the port is taken, maybe only by old connections: bind with it, and
//     listen for a moment. A listen fails if another socket at the port listens
//     or lacks the option, and of several that try this at once one can win.
//     Then take the option away while still listening, and stop listening;
//   - a socket that does not listen never has the option; one that does has it,
//     so that its connections inherit it and will not be in the next one's way.

// open binds a socket of protocol to host and port. -1 without an error means
// that the kernel has no sockets of this protocol.
func open(protocol string, host netip.Addr, port uint16) (int, error) {
	fd, sa, err := socket(protocol, host, port)
	if err != nil || fd < 0 {
		return fd, err
	}
	err = os.NewSyscallError("bind", unix.Bind(fd, sa))
	if protocol == "tcp" && errors.Is(err, unix.EADDRINUSE) {
		err = bindOver(fd, sa)
	}
	if err == nil && protocol == "udp" {
		err = readyUDP(fd, host)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// bindOver binds to a port at which nothing but closed connections is left.
func bindOver(fd int, sa unix.Sockaddr) error {
	if err := setReuse(fd, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, sa); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		return os.NewSyscallError("listen", err)
	}
	return unlisten(fd)
}

// listen makes a bound socket accept connections.
func listen(fd int) error {
	err := unix.Listen(fd, unix.SOMAXCONN)
	if errors.Is(err, unix.EADDRINUSE) { // connections from before a Pause
		if err := setReuse(fd, 1); err != nil {
			return err
		}
		if err = unix.Listen(fd, unix.SOMAXCONN); err != nil {
			setReuse(fd, 0)
		}
	}
	if err != nil {
		return os.NewSyscallError("listen", err)
	}
	return setReuse(fd, 1)
}

// unlisten stops listening and stays bound. The order matters: the option goes
// first. The kernel keeps the port because it was bound by number.
func unlisten(fd int) error {
	if err := setReuse(fd, 0); err != nil {
		return err
	}
	return os.NewSyscallError("shutdown", unix.Shutdown(fd, unix.SHUT_RD))
}

func setReuse(fd, on int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, on))
}

// pick asks the kernel for a free port. It is free again when this returns: a
// socket bound to port 0 would lose its number when it stops listening, so the
// number has to be bound as such.
func pick(protocol string, host netip.Addr) (uint16, error) {
	w := &Want{Protocol: protocol, Host: host}
	fd, sa, err := socket(protocol, host, 0)
	if err == nil && fd < 0 { // no such sockets: any number that TCP has free
		fd, sa, err = socket("tcp", host, 0)
	}
	if err != nil {
		return 0, explain(err, w, 0)
	}
	defer unix.Close(fd)
	err = unix.Bind(fd, sa)
	if errors.Is(err, unix.EADDRINUSE) { // none is left
		return 0, &Conflict{Protocol: protocol, Host: host}
	}
	if err == nil {
		sa, err = unix.Getsockname(fd)
	}
	if err != nil {
		return 0, explain(os.NewSyscallError("bind", err), w, 0)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return uint16(sa.Port), nil
	case *unix.SockaddrInet6:
		return uint16(sa.Port), nil
	}
	return 0, errors.New("bind: the kernel gave an address of an unknown family")
}

// socket makes a socket and the address to bind it to.
func socket(protocol string, host netip.Addr, port uint16) (int, unix.Sockaddr, error) {
	kind, proto := unix.SOCK_STREAM, 0
	switch protocol {
	case "udp":
		kind = unix.SOCK_DGRAM
	case "sctp":
		proto = unix.IPPROTO_SCTP
	}
	kind |= unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	family := unix.AF_INET6
	if host.Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, kind, proto)
	if errors.Is(err, unix.EAFNOSUPPORT) && !host.IsValid() { // a kernel without IPv6
		family = unix.AF_INET
		fd, err = unix.Socket(family, kind, proto)
	}
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ESOCKTNOSUPPORT) {
		return -1, nil, nil
	}
	if err != nil {
		return -1, nil, os.NewSyscallError("socket", err)
	}
	if family == unix.AF_INET {
		sa := &unix.SockaddrInet4{Port: int(port)}
		if host.IsValid() {
			sa.Addr = host.As4()
		}
		return fd, sa, nil
	}
	only := 0
	sa := &unix.SockaddrInet6{Port: int(port)}
	if host.IsValid() {
		only, sa.Addr = 1, host.As16()
		sa.ZoneId = zone(host.Zone())
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
		unix.Close(fd)
		return -1, nil, os.NewSyscallError("setsockopt", err)
	}
	return fd, sa, nil
}

func zone(name string) uint32 {
	if name == "" {
		return 0
	}
	i, err := net.InterfaceByName(name)
	if err != nil {
		return 0 // the bind will say that there is no such address
	}
	return uint32(i.Index)
}
