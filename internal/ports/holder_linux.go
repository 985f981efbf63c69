package ports

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// holder finds the process that has a socket at the port, by the socket's inode
// in the kernel's tables and in the descriptors of all processes. It returns 0
// if there is none to be seen: a process of another pid namespace, of another
// user, or gone since. Only conflicts pay for this.
func holder(protocol string, host netip.Addr, port uint16) (pid int, process string) {
	inodes := tableInodes(protocol, host, port)
	if protocol == "tcp" { // the tables list no socket that is bound and does not listen
		inodes = append(inodes, idleInodes(host, port)...)
	}
	for _, inode := range inodes {
		if pid, process := owner(inode); pid != 0 {
			return pid, process
		}
	}
	return 0, ""
}

// tableInodes reads /proc/net/tcp and its like, listening sockets first.
func tableInodes(protocol string, host netip.Addr, port uint16) []string {
	var listening, rest []string
	for _, suffix := range []string{"", "6"} {
		// thread-self: /proc/net is that of the main thread.
		f, err := os.Open("/proc/thread-self/net/" + protocol + suffix)
		if err != nil {
			continue
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			fields := strings.Fields(s.Text())
			if len(fields) < 10 || fields[9] == "0" {
				continue
			}
			addr, number, ok := parseLocal(fields[1])
			if !ok || number != port || !overlap(loose(addr), host) {
				continue
			}
			if fields[3] == "0A" {
				listening = append(listening, fields[9])
			} else {
				rest = append(rest, fields[9])
			}
		}
		f.Close()
	}
	return slices.Concat(listening, rest)
}

// parseLocal reads "0100007F:1F90": 32-bit words in the byte order of the host.
func parseLocal(s string) (addr netip.Addr, port uint16, ok bool) {
	hexAddr, hexPort, ok := strings.Cut(s, ":")
	number, err := strconv.ParseUint(hexPort, 16, 16)
	if !ok || err != nil || len(hexAddr)%8 != 0 {
		return addr, 0, false
	}
	var raw []byte
	for ; hexAddr != ""; hexAddr = hexAddr[8:] {
		word, err := strconv.ParseUint(hexAddr[:8], 16, 32)
		if err != nil {
			return addr, 0, false
		}
		raw = nativeWord(raw, uint32(word))
	}
	addr, ok = netip.AddrFromSlice(raw)
	return addr.Unmap(), uint16(number), ok
}

// loose widens :: to every address: the tables do not say whether such a
// socket takes IPv4 as well.
func loose(a netip.Addr) netip.Addr {
	if a == netip.IPv6Unspecified() {
		return netip.Addr{}
	}
	return a
}

// owner finds the process with a descriptor of the socket.
func owner(inode string) (pid int, process string) {
	want := "socket:[" + inode + "]"
	procs, _ := os.ReadDir("/proc")
	for _, p := range procs {
		n, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		fds, _ := os.ReadDir(filepath.Join("/proc", p.Name(), "fd"))
		for _, fd := range fds {
			if to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", n, fd.Name())); to == want {
				comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", n))
				return n, string(bytes.TrimSpace(comm))
			}
		}
	}
	return 0, ""
}
