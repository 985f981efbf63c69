package ports

import (
	"container/list"
	"encoding/binary"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// udpIdle is after how long without a datagram in either direction a
	// client is forgotten: what Docker's proxy uses.
	udpIdle = 90 * time.Second

	// maxClients bounds the clients of all UDP ports of a container. The one
	// that was silent longest makes room, so that a flood with false source
	// addresses locks nobody out for long.
	maxClients = 1024

	maxDatagram = 64 << 10

	// receiveBuffer is half of the kernel's default, as the kernel doubles it.
	receiveBuffer = 106496
)

// udp is what is known of UDP clients. Only the loop uses it.
type udp struct {
	clients map[udpKey]*udpClient
	byFD    map[int32]*udpClient
	recent  *list.List // of *udpClient, the one heard of last in front
	buf     []byte     // there only as long as there are clients

	generation atomic.Uint64 // of the targets
}

// udpKey is a conversation: replies must come from the address that the client
// sent to.
type udpKey struct {
	port   int32
	client netip.AddrPort
	local  netip.Addr // zero for sockets with one address
}

type udpClient struct {
	key        udpKey
	fd         int32 // connected to the container
	seen       time.Time
	generation uint64
	held       int32         // descriptor of the held socket
	to         unix.Sockaddr // the client
	source     []byte        // control message that sets the source address of replies
	place      *list.Element
}

// readyUDP prepares a socket that was just bound.
func readyUDP(fd int, host netip.Addr) error {
	if err := discard(fd); err != nil {
		return err
	}
	switch { // a socket for all addresses must be told by which one a datagram came
	case !host.IsValid() || host == netip.IPv6Unspecified():
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1); err != unix.ENOPROTOOPT {
			return os.NewSyscallError("setsockopt", err)
		}
		fallthrough // the one that a kernel without IPv6 gave instead
	case host == netip.IPv4Unspecified():
		return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1))
	}
	return nil
}

// discard has the kernel keep next to nothing of what arrives: a socket that
// nobody reads would queue 200 KiB. (A filter that drops everything would cost
// a page for each socket.) The smallest buffer takes one or two datagrams.
func discard(fd int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1))
}

// receive undoes discard, and drops what was kept: it was for another process.
func receive(fd int) error {
	for {
		_, _, err := unix.Recvfrom(fd, nil, unix.MSG_TRUNC)
		if err != nil && err != unix.EINTR {
			break
		}
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer))
}

// receive passes on what clients sent to p.
func (u *udp) receive(s *server, index int32, p *port) {
	if u.buf == nil {
		u.buf = make([]byte, maxDatagram)
	}
	var oob [128]byte
	for range perEvent {
		n, oobn, _, from, err := unix.Recvmsg(int(p.fd), u.buf, oob[:], 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return
		}
		c := u.client(s, index, p, from, oob[:oobn])
		if c == nil {
			continue
		}
		// A refusal of an earlier datagram shows here: the next attempt is sent.
		if _, err := unix.Write(int(c.fd), u.buf[:n]); err == unix.ECONNREFUSED {
			unix.Write(int(c.fd), u.buf[:n])
		}
	}
}

// answer passes on what the container sent to one client.
func (u *udp) answer(s *server, fd int32) {
	c := u.byFD[fd]
	if c == nil {
		return
	}
	if u.buf == nil {
		u.buf = make([]byte, maxDatagram)
	}
	for range perEvent {
		n, err := unix.Read(int(fd), u.buf)
		if err == unix.EINTR || err == unix.ECONNREFUSED {
			continue // refused: nobody listens there now, which UDP clients are not told
		}
		if err != nil {
			return
		}
		u.touch(c)
		unix.SendmsgN(int(c.held), u.buf[:n], c.source, c.to, unix.MSG_DONTWAIT)
	}
}

// client finds or makes the socket for a client; nil if it cannot be served.
func (u *udp) client(s *server, index int32, p *port, from unix.Sockaddr, oob []byte) *udpClient {
	local, source := arrival(oob)
	key := udpKey{port: index, client: addrPort(from), local: local}
	generation := u.generation.Load()
	c := u.clients[key]
	if c != nil && c.generation != generation { // the container may have other addresses now
		u.drop(c)
		c = nil
	}
	if c != nil {
		u.touch(c)
		return c
	}
	if len(u.clients) >= maxClients {
		u.drop(u.recent.Back().Value.(*udpClient))
	}
	fd := dialUDP((*s.targets.Load())(p.want.Container, "udp"), key.client.Addr().Unmap().Is4())
	if fd < 0 {
		return nil
	}
	if s.watch(fd, int32(fd), clientSocket) != nil {
		unix.Close(fd)
		return nil
	}
	c = &udpClient{key: key, fd: int32(fd), generation: generation, held: p.fd, to: from, source: source}
	if u.clients == nil {
		u.clients, u.byFD, u.recent = make(map[udpKey]*udpClient), make(map[int32]*udpClient), list.New()
	}
	u.clients[key], u.byFD[c.fd] = c, c
	c.seen, c.place = time.Now(), u.recent.PushFront(c)
	return c
}

func (u *udp) touch(c *udpClient) {
	c.seen = time.Now()
	u.recent.MoveToFront(c.place)
}

func (u *udp) drop(c *udpClient) {
	unix.Close(int(c.fd)) // leaves epoll by itself
	delete(u.clients, c.key)
	delete(u.byFD, c.fd)
	u.recent.Remove(c.place)
}

// expire forgets silent clients and returns when to look again; zero: there
// are none.
func (u *udp) expire(now time.Time) time.Time {
	for u.recent != nil && u.recent.Len() > 0 {
		c := u.recent.Back().Value.(*udpClient)
		if now.Sub(c.seen) < udpIdle {
			return c.seen.Add(udpIdle)
		}
		u.drop(c)
	}
	u.clients, u.byFD, u.recent, u.buf = nil, nil, nil, nil
	return time.Time{}
}

func (u *udp) close() {
	for _, c := range u.clients {
		unix.Close(int(c.fd))
	}
}

// dialUDP connects a socket to the first target that it can, those of the
// client's family first; -1 if there is none.
func dialUDP(targets []netip.AddrPort, is4 bool) int {
	for _, same := range []bool{true, false} {
		for _, t := range targets {
			t = netip.AddrPortFrom(t.Addr().Unmap(), t.Port())
			if t.Addr().Is4() == is4 != same {
				continue
			}
			family, sa := unix.AF_INET, unix.Sockaddr(nil)
			if t.Addr().Is4() {
				sa = &unix.SockaddrInet4{Port: int(t.Port()), Addr: t.Addr().As4()}
			} else {
				family, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(t.Port()), Addr: t.Addr().As16(), ZoneId: zone(t.Addr().Zone())}
			}
			fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				continue
			}
			if unix.Connect(fd, sa) == nil {
				return fd
			}
			unix.Close(fd)
		}
	}
	return -1
}

// arrival reads by which address a datagram came, and makes the control
// message that sends from that address.
func arrival(oob []byte) (local netip.Addr, source []byte) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return local, nil
	}
	for i := range msgs {
		m := &msgs[i]
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			local = netip.AddrFrom4([4]byte(m.Data[4:8])) // ipi_spec_dst: our address, even for a broadcast
			return local, unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: local.As4()})
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			addr := [16]byte(m.Data[:16])
			info := &unix.Inet6Pktinfo{Addr: addr}
			local = netip.AddrFrom16(addr)
			if local.IsLinkLocalUnicast() && !local.Is4In6() { // means nothing without its interface
				info.Ifindex = binary.NativeEndian.Uint32(m.Data[16:])
			}
			return local, unix.PktInfo6(info)
		}
	}
	return local, nil
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
