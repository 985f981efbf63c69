package cni

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
)

// checkRoutes refuses subnets that overlap any route of this machine, in any
// table; the default routes, the tables' local addresses and the routes of the
// bridge itself do not count.
func checkRoutes(h *netlink.Handle, n *network) error {
	if len(n.filter.Subnets) == 0 {
		return nil
	}
	self := -1
	if link, err := h.LinkByName(n.filter.Name); err == nil {
		self = link.Attrs().Index
	}
	routes, err := dump(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return fmt.Errorf("list the routes of this machine: %w", fault.Opaque(err))
	}
	for _, r := range routes {
		if r.Dst == nil || r.Table == unix.RT_TABLE_LOCAL || r.LinkIndex == self {
			continue
		}
		dst := prefixOf(*r.Dst)
		if dst.Bits() == 0 || dst.Addr().IsLinkLocalUnicast() || dst.Addr().IsMulticast() {
			continue
		}
		for _, subnet := range n.filter.Subnets {
			if subnet.Overlaps(dst) {
				return fault.Kind(ErrOverlap, "subnet %s of network %s overlaps the route %s: choose another subnet", subnet, n.name, describe(h, r, dst))
			}
		}
	}
	return nil
}

// describe is a route as ip route would print it.
func describe(h *netlink.Handle, r netlink.Route, dst netip.Prefix) string {
	var b strings.Builder
	switch r.Type {
	case unix.RTN_BLACKHOLE:
		b.WriteString("blackhole ")
	case unix.RTN_UNREACHABLE:
		b.WriteString("unreachable ")
	case unix.RTN_PROHIBIT:
		b.WriteString("prohibit ")
	}
	b.WriteString(dst.Masked().String())
	if r.Gw != nil {
		b.WriteString(" via " + r.Gw.String())
	}
	if link, err := h.LinkByIndex(r.LinkIndex); err == nil && r.LinkIndex > 0 {
		b.WriteString(" dev " + link.Attrs().Name)
	}
	if r.Table != unix.RT_TABLE_MAIN {
		fmt.Fprintf(&b, " table %d", r.Table)
	}
	return b.String()
}

// defaultRoutes are those of one family, of the main table.
func defaultRoutes(h *netlink.Handle, family int) []netlink.Route {
	all, err := dump(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil
	}
	var found []netlink.Route
	for _, r := range all {
		if r.LinkIndex > 0 && (r.Dst == nil || prefixOf(*r.Dst).Bits() == 0) {
			found = append(found, r)
		}
	}
	return found
}

// defaultLink is where the machine's traffic leaves; nil if it goes nowhere.
func defaultLink(h *netlink.Handle) netlink.Link {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		var best *netlink.Route
		routes := defaultRoutes(h, family)
		for i := range routes {
			if best == nil || routes[i].Priority < best.Priority {
				best = &routes[i]
			}
		}
		if best != nil {
			if link, err := h.LinkByIndex(best.LinkIndex); err == nil {
				return link
			}
		}
	}
	return nil
}

// defaultMTU is that of the way out, so that nothing is fragmented there.
func defaultMTU(h *netlink.Handle) int {
	if link := defaultLink(h); link != nil && link.Attrs().MTU >= 1280 && link.Attrs().MTU <= 65535 {
		return link.Attrs().MTU
	}
	return 1500
}

// uplinks6 are the interfaces from which IPv6 comes from outside: those with a
// default route or a global address, but for bridges and their ports, which
// are networks of containers.
func uplinks6() ([]string, error) {
	h, err := openNetlink()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	index := map[int]bool{}
	for _, r := range defaultRoutes(h, netlink.FAMILY_V6) {
		index[r.LinkIndex] = true
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return h.AddrList(nil, netlink.FAMILY_V6) })
	if err != nil {
		return nil, fmt.Errorf("list the addresses of this machine: %w", fault.Opaque(err))
	}
	for _, a := range addrs {
		if a.Scope == unix.RT_SCOPE_UNIVERSE {
			index[a.LinkIndex] = true
		}
	}
	var names []string
	for i := range index {
		link, err := h.LinkByIndex(i)
		if err != nil || link.Type() == "bridge" || link.Attrs().MasterIndex != 0 || link.Attrs().Flags&net.FlagLoopback != 0 {
			continue
		}
		names = append(names, link.Attrs().Name)
	}
	return names, nil
}
