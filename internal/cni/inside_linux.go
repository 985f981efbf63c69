package cni

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
)

// configure gives the interface in the namespace, in which the calling thread
// and the handle are, its addresses and routes.
func (x *call) configure(h *netlink.Handle, result *types100.Result, station bool) error {
	link, err := h.LinkByName(x.ifname)
	if err != nil {
		return fmt.Errorf("look for %s in the namespace of %s: %w", x.ifname, x.id, fault.Opaque(err))
	}
	if err := x.settings(result, station); err != nil {
		return err
	}
	for _, ip := range result.IPs {
		if err := addAddress(h, link, prefixOf(ip.Address)); err != nil {
			return fmt.Errorf("give %s of %s the address %s: %w", x.ifname, x.id, prefixOf(ip.Address), err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up %s of %s: %w", x.ifname, x.id, fault.Opaque(err))
	}
	for _, r := range result.Routes {
		if err := x.addRoute(h, link, result, r); err != nil {
			return err
		}
	}
	return nil
}

// settings prepares the interface. Only what IPv6 cannot do without is worth an
// error; the rest saves the second of address detection, tells neighbours that
// an address has moved, and keeps a container of a bridge network from being its
// neighbours' router: those need no autoconfiguration, stations of a real
// network (macvlan) may.
func (x *call) settings(result *types100.Result, station bool) error {
	s := sysctls(x.c.proc)
	s.set("net/ipv4/conf/"+x.ifname+"/arp_notify", "1")
	v6 := "net/ipv6/conf/" + x.ifname + "/"
	if !station {
		s.set(v6+"accept_ra", "0")
	}
	if slices.ContainsFunc(result.IPs, func(ip *types100.IPConfig) bool { return prefixOf(ip.Address).Addr().Is6() }) {
		s.set(v6+"accept_dad", "0")
		return s.set(v6+"disable_ipv6", "0")
	}
	if !station && len(result.IPs) > 0 {
		s.set(v6+"disable_ipv6", "1")
	}
	return nil
}

// routeOf is the kernel's form of a route of the result: without a gateway of
// its own it has that of its family; default routes have the metric that was
// asked for.
func (x *call) routeOf(link netlink.Link, result *types100.Result, r *types.Route) *netlink.Route {
	dst := r.Dst
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: &dst, Gw: r.GW, MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: r.Priority}
	if r.Table != nil {
		route.Table = *r.Table
	}
	if r.Scope != nil {
		route.Scope = netlink.Scope(*r.Scope)
	}
	if route.Gw == nil && r.Scope == nil {
		for _, ip := range result.IPs {
			if ip.Gateway != nil && (ip.Gateway.To4() != nil) == (dst.IP.To4() != nil) {
				route.Gw = ip.Gateway
				break
			}
		}
	}
	if isDefault(r) && route.Priority == 0 {
		route.Priority = x.req.Metric
	}
	return route
}

func isDefault(r *types.Route) bool {
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}

func (x *call) addRoute(h *netlink.Handle, link netlink.Link, result *types100.Result, r *types.Route) error {
	route := x.routeOf(link, result, r)
	dst := prefixOf(r.Dst)
	has := slices.ContainsFunc(result.IPs, func(ip *types100.IPConfig) bool { return prefixOf(ip.Address).Addr().Is4() == dst.Addr().Is4() })
	if !has {
		return nil // a route of a family in which the attachment has no address
	}
	err := h.RouteAdd(route)
	if errors.Is(err, unix.EEXIST) {
		return fault.Invalid("the namespace of %s has a route to %s with metric %d already: give its networks different metrics", x.id, dst, route.Priority)
	}
	if err != nil {
		return fmt.Errorf("add the route to %s via %s for %s: %w", dst, route.Gw, x.key(), fault.Opaque(err))
	}
	return nil
}

// addDefaultRoutes is what isDefaultGateway means.
func addDefaultRoutes(result *types100.Result) {
	for _, ip := range result.IPs {
		all := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		if prefixOf(ip.Address).Addr().Is4() {
			all = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		}
		has := slices.ContainsFunc(result.Routes, func(r *types.Route) bool { return prefixOf(r.Dst) == all })
		if ip.Gateway != nil && !has {
			result.Routes = append(result.Routes, &types.Route{Dst: ipNet(all), GW: ip.Gateway})
		}
	}
}

// checkInside says what the interface in the namespace lacks of what ADD gave
// it.
func (x *call) checkInside(h *netlink.Handle, kind string) error {
	link, err := h.LinkByName(x.ifname)
	if isNotFound(err) {
		return fault.Invalid("%s has no interface %s any more", x.id, x.ifname)
	}
	if err != nil {
		return fault.Opaque(err)
	}
	if link.Type() != kind {
		return fault.Invalid("interface %s of %s is a %s, not a %s", x.ifname, x.id, link.Type(), kind)
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		return fault.Invalid("interface %s of %s is down", x.ifname, x.id)
	}
	if x.prev == nil {
		return nil
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return h.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return fault.Opaque(err)
	}
	for _, ip := range x.prev.IPs {
		want := prefixOf(ip.Address)
		if x.isInside(ip) && !slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return prefixOf(*a.IPNet) == want }) {
			return fault.Invalid("interface %s of %s has lost its address %s", x.ifname, x.id, want)
		}
	}
	for _, i := range x.prev.Interfaces {
		if i.Sandbox != "" && i.Name == x.ifname && i.Mac != "" && i.Mac != link.Attrs().HardwareAddr.String() {
			return fault.Invalid("interface %s of %s has the MAC address %s, not %s", x.ifname, x.id, link.Attrs().HardwareAddr, i.Mac)
		}
	}
	return x.checkRoutesInside(h, link)
}

// isInside says whether an address is of the container's interface.
func (x *call) isInside(ip *types100.IPConfig) bool {
	if ip.Interface == nil || *ip.Interface < 0 || *ip.Interface >= len(x.prev.Interfaces) {
		return true
	}
	return x.prev.Interfaces[*ip.Interface].Name == x.ifname
}

func (x *call) checkRoutesInside(h *netlink.Handle, link netlink.Link) error {
	routes, err := dump(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{LinkIndex: link.Attrs().Index}, netlink.RT_FILTER_OIF)
	})
	if err != nil {
		return fault.Opaque(err)
	}
	for _, want := range x.prev.Routes {
		dst := prefixOf(want.Dst)
		if want.Table != nil || !slices.ContainsFunc(x.prev.IPs, func(ip *types100.IPConfig) bool { return prefixOf(ip.Address).Addr().Is4() == dst.Addr().Is4() }) {
			continue
		}
		same := func(r netlink.Route) bool {
			if r.Dst == nil {
				return dst.Bits() == 0 && (r.Family == netlink.FAMILY_V4) == dst.Addr().Is4()
			}
			return prefixOf(*r.Dst) == dst
		}
		if !slices.ContainsFunc(routes, same) {
			return fault.Invalid("interface %s of %s has lost its route to %s", x.ifname, x.id, dst)
		}
	}
	return nil
}
