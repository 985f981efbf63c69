package nft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// legacy is the filter table of iptables-legacy for one family: tables of the
// kernel that netfilter's netlink does not show. Sizes and offsets are those of
// linux/netfilter_ipv4/ip_tables.h and linux/netfilter_ipv6/ip6_tables.h.
type legacy struct {
	family, domain, level int
	names                 string // the tables that are in use
	tool                  string
	entry                 int // size of an entry without its matches and its target
	ifaces                int // offset of the names of interfaces, which two masks follow
	flags                 int // offset of a byte where set bits are further conditions
	protocol              int
	addresses             int // bytes of addresses and their masks
	target                int // offset of the target's offset, which the next entry's follows
}

var legacies = [...]legacy{
	{v4, unix.AF_INET, unix.IPPROTO_IP, "/proc/thread-self/net/ip_tables_names", "iptables-legacy", 112, 16, 83, 80, 16, 88},
	{v6, unix.AF_INET6, unix.IPPROTO_IPV6, "/proc/thread-self/net/ip6_tables_names", "ip6tables-legacy", 168, 64, 132, 128, 64, 140},
}

const (
	soGetInfo    = 64 // IPT_SO_GET_INFO
	soGetEntries = 65 // IPT_SO_GET_ENTRIES
	infoSize     = 84 // struct ipt_getinfo
	entriesSize  = 40 // struct ipt_get_entries without its entries
	nameSize     = 32 // XT_TABLE_MAXNAMELEN
	hookForward  = 2  // NF_INET_FORWARD
)

// Legacy is Foreign for iptables-legacy, in the calling thread's namespace. It
// only looks at tables that are in use: looking makes others.
func Legacy(bridges ...string) ([]Chain, error) {
	var found []Chain
	var errs error
	for _, l := range legacies {
		names, err := os.ReadFile(l.names)
		if err != nil || !slices.Contains(strings.Fields(string(names)), "filter") {
			continue
		}
		c, err := l.forward(bridges)
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("read the rules of %s: %w", l.tool, err))
		}
		if c != nil {
			found = append(found, *c)
		}
	}
	return found, explain(errs)
}

// forward returns the FORWARD chain if it drops.
func (l *legacy) forward(bridges []string) (*Chain, error) {
	fd, err := unix.Socket(l.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var rules []byte
	var first, last uint32
	for range tries { // the table may change between the two questions
		info := make([]byte, infoSize)
		copy(info, "filter")
		if err := l.getsockopt(fd, soGetInfo, info); err != nil {
			return nil, err
		}
		word := func(at int) uint32 { return binary.NativeEndian.Uint32(info[at:]) }
		first, last = word(nameSize+4+4*hookForward), word(nameSize+24+4*hookForward)
		rules = make([]byte, entriesSize+word(nameSize+48))
		copy(rules, "filter")
		binary.NativeEndian.PutUint32(rules[nameSize:], word(nameSize+48))
		if err = l.getsockopt(fd, soGetEntries, rules); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return l.judge(rules[entriesSize:], first, last, bridges), nil
}

func (l *legacy) getsockopt(fd, option int, buf []byte) error {
	size := uint32(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(l.level), uintptr(option),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return os.NewSyscallError("getsockopt", errno)
	}
	return nil
}

// judge goes from the chain's first entry to its last, which is its policy.
// Rules with other conditions than an interface, and jumps, are not judged.
func (l *legacy) judge(rules []byte, first, last uint32, bridges []string) *Chain {
	w := newWalk(0, nil, bridges)
	for at := first; int(at)+l.entry <= len(rules) && at <= last; {
		e := rules[at:]
		target := int(binary.NativeEndian.Uint16(e[l.target:]))
		next := uint32(binary.NativeEndian.Uint16(e[l.target+2:]))
		if next == 0 || target+nameSize+8 > len(e) {
			return nil
		}
		// A verdict is -1 - NF_DROP or -1 - NF_ACCEPT; a jump is not negative.
		verdict := int32(binary.NativeEndian.Uint32(e[target+nameSize:]))
		standard := e[target+2] == 0
		rejects := bytes.HasPrefix(e[target+2:], []byte("REJECT\x00"))
		p, isPass, always := l.conditions(e[:target])
		switch {
		case isPass && standard && verdict == -2:
			if w.accept(p); len(w.left()) == 0 {
				return nil
			}
		case always && standard && verdict == -2:
			return nil
		case always && (rejects || standard && verdict == -1):
			why := "it drops or rejects what no earlier rule accepts"
			if at == last {
				why = byPolicy
			}
			c := &Chain{Family: [...]string{"ip", "ip6"}[l.family], Table: "filter (legacy)", Name: "FORWARD", Why: why}
			c.Command = iptables(l.tool, "FORWARD", prefixes(w.left()))
			return c
		}
		at += next
	}
	return nil
}

// conditions says whether an entry is for all packets, or for all of one
// interface; with matches it is for neither.
func (l *legacy) conditions(e []byte) (p pass, isPass, always bool) {
	zero := func(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
	if len(e) > l.entry || !zero(e[:l.addresses]) || !zero(e[l.protocol:l.flags+2]) {
		return p, false, false
	}
	iface := func(at int) (pass, bool) {
		name, mask := e[at:at+16], e[at+32:at+48]
		n := bytes.IndexByte(mask, 0) // the mask covers a whole name's NUL
		if n < 0 {
			n = len(mask)
		}
		s, _, whole := bytes.Cut(name[:n], []byte{0})
		return pass{name: string(s), prefix: !whole}, n > 0
	}
	in, hasIn := iface(l.ifaces)
	out, hasOut := iface(l.ifaces + 16)
	in.key, out.key = expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME
	switch {
	case hasIn && hasOut:
		return p, false, false
	case hasIn:
		return in, true, false
	case hasOut:
		return out, true, false
	}
	return p, false, true
}
