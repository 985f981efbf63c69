package nft

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
)

// flush drops what connection tracking knows of the ports: in the network
// namespace with that descriptor, or the thread's for 0. An entry fixes the
// translation of a flow when it begins, so one that began before a port was
// published, or lives on after, leads nowhere for as long as packets come. TCP
// needs no such thing: a connection ends by itself. Flows that lead to where
// the ports lead now are kept, if asked.
func flush(netnsFD int, ports []Port, keep bool) error {
	if len(ports) == 0 {
		return nil
	}
	// Both families are opened here, as the handle asks for others in whatever
	// namespace the thread is in.
	h, err := conntrackHandle(netnsFD)
	if err != nil {
		return explain(fmt.Errorf("open connection tracking: %w", err))
	}
	defer h.Close()
	var filters [2][]netlink.CustomConntrackFilter
	local := &localAddrs{h: h}
	for _, p := range ports {
		p, err := p.normal()
		if err != nil {
			return err
		}
		f := family(p.To.Addr())
		if len(filters[f]) == 0 {
			filters[f] = []netlink.CustomConntrackFilter{&portFilter{places: map[flowKey][]Port{}, local: local, keep: keep}}
		}
		pf := filters[f][0].(*portFilter)
		k := flowKey{protocols[p.Protocol], p.HostPort}
		pf.places[k] = append(pf.places[k], p)
	}
	for f, inet := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if len(filters[f]) == 0 {
			continue
		}
		for range tries {
			_, err = h.ConntrackDeleteFilters(netlink.ConntrackTable, inet, filters[f]...)
			if !errors.Is(err, netlink.ErrDumpInterrupted) {
				break
			}
		}
		if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.EPROTONOSUPPORT) || errors.Is(err, syscall.EINVAL) {
			return fault.Unsupported("the kernel cannot list tracked connections: it needs CONFIG_NF_CT_NETLINK (modprobe nf_conntrack_netlink): %w", err)
		}
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return explain(fmt.Errorf("drop tracked connections: %w", err))
		}
	}
	return nil
}

func conntrackHandle(fd int) (*netlink.Handle, error) {
	if fd == 0 {
		return netlink.NewHandle(unix.NETLINK_NETFILTER, unix.NETLINK_ROUTE)
	}
	return netlink.NewHandleAt(netns.NsHandle(fd), unix.NETLINK_NETFILTER, unix.NETLINK_ROUTE)
}

// flushUDP does this for the UDP ports of a change that was made already: a
// kernel that cannot is no reason to undo it.
func (t *Table) flushUDP(ports []Port, keep bool) error {
	var udp []Port
	for _, p := range ports {
		if p.Protocol == "udp" {
			udp = append(udp, p)
		}
	}
	err := flush(t.NetNS, udp, keep)
	if errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EPERM) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("nftables table %s: %w", t.Name, err)
	}
	return nil
}

type flowKey struct {
	protocol byte
	port     uint16
}

// portFilter matches flows that were addressed to this host at one of the
// ports, or were led to one of the containers. Flows of containers to the same
// port of the world are none of ours: without the addresses, publishing port 53
// would break every query under way.
type portFilter struct {
	places map[flowKey][]Port
	local  *localAddrs
	keep   bool
}

func (f *portFilter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	dst, _ := netip.AddrFromSlice(flow.Forward.DstIP)
	by, _ := netip.AddrFromSlice(flow.Reverse.SrcIP) // who answers: after translation
	dst, by = dst.Unmap(), by.Unmap()
	for _, p := range f.places[flowKey{flow.Forward.Protocol, flow.Forward.DstPort}] {
		switch {
		case f.keep && by == p.To.Addr() && flow.Reverse.SrcPort == p.To.Port():
		case p.Host.IsValid() && p.Host == dst, by == p.To.Addr() && dst != by:
			return true
		case !p.Host.IsValid() && f.local.has(dst):
			return true
		}
	}
	return false
}

// localAddrs are the addresses of the host, read when first asked for.
type localAddrs struct {
	h     *netlink.Handle
	addrs map[netip.Addr]bool // nil: not read
	all   bool                // they cannot be read: every address counts as one
}

func (l *localAddrs) has(a netip.Addr) bool {
	if l.addrs == nil && !l.all {
		l.addrs = make(map[netip.Addr]bool)
		list, err := l.h.AddrList(nil, netlink.FAMILY_ALL)
		l.all = err != nil
		for _, addr := range list {
			l.addrs[fromIP(addr.IP)] = true
		}
	}
	return l.all || a.IsLoopback() || l.addrs[a]
}

func fromIP(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
