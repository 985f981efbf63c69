package ports

import (
	"encoding/binary"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// States by which sock_diag is asked, from linux/inet_diag.h. A socket that is
// bound and neither listens nor is connected has one of its own since Linux
// 6.8; older kernels show no such socket to anyone.
const (
	sockDiagByFamily   = 20
	tcpBoundInactive   = 13
	inetDiagReqSize    = 56
	inetDiagMsgSize    = 72
	netlinkHeaderBytes = 16
)

// nativeWord appends w in the byte order of the host.
func nativeWord(b []byte, w uint32) []byte { return binary.NativeEndian.AppendUint32(b, w) }

// idleInodes lists the TCP sockets that are bound to the port and do not
// listen, such as other containers' reservations.
func idleInodes(host netip.Addr, port uint16) []string {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	// The kernel answers a dump from memory: a limit is for surprises only.
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1})
	var inodes []string
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		inodes = append(inodes, dumpIdle(fd, family, host, port)...)
	}
	return inodes
}

func dumpIdle(fd int, family byte, host netip.Addr, port uint16) []string {
	req := make([]byte, 0, netlinkHeaderBytes+inetDiagReqSize)
	req = nativeWord(req, netlinkHeaderBytes+inetDiagReqSize)
	req = binary.NativeEndian.AppendUint16(req, sockDiagByFamily)
	req = binary.NativeEndian.AppendUint16(req, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	req = append(req, make([]byte, 8)...) // sequence, port
	req = append(req, family, unix.IPPROTO_TCP, 0, 0)
	req = nativeWord(req, 1<<tcpBoundInactive)
	req = append(req, make([]byte, inetDiagReqSize-8)...) // any address
	if unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) != nil {
		return nil
	}
	var inodes []string
	buf := make([]byte, 32<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return inodes
		}
		for b := buf[:n]; len(b) >= netlinkHeaderBytes; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < netlinkHeaderBytes || size > len(b) {
				return inodes
			}
			switch binary.NativeEndian.Uint16(b[4:]) {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				return inodes
			case sockDiagByFamily:
				if inode := match(b[netlinkHeaderBytes:size], host, port); inode != "" {
					inodes = append(inodes, inode)
				}
			}
			b = b[min(len(b), (size+3)&^3):]
		}
	}
}

// match returns the inode of the socket that a struct inet_diag_msg tells of,
// if it is at the port.
func match(msg []byte, host netip.Addr, port uint16) string {
	if len(msg) < inetDiagMsgSize || binary.BigEndian.Uint16(msg[4:]) != port {
		return ""
	}
	addr, _ := netip.AddrFromSlice(msg[8:24])
	if msg[0] == unix.AF_INET {
		addr, _ = netip.AddrFromSlice(msg[8:12])
	}
	inode := binary.NativeEndian.Uint32(msg[68:])
	if inode == 0 || !overlap(loose(addr.Unmap()), host) {
		return ""
	}
	return strconv.FormatUint(uint64(inode), 10)
}
