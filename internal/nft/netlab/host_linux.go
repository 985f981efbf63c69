package netlab

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
)

// Addresses of the link between a Host and its Outside.
const (
	HostV4    = "192.0.2.1"
	HostV6    = "2001:db8:99::1"
	OutsideV4 = "192.0.2.2"
	OutsideV6 = "2001:db8:99::2"
)

// Host is a namespace that forwards, and one outside that reaches it by a link
// of its own ("up0" in both).
type Host struct {
	*NS
	Outside *NS
	links   int
}

// NewHost makes a host and its outside.
func NewHost(t testing.TB) *Host {
	t.Helper()
	h := HostOn(New(t, "host"))
	h.Sysctl("net/ipv4/ip_forward", "1")
	h.Sysctl("net/ipv6/conf/all/forwarding", "1")
	return h
}

// HostOn gives a namespace an outside.
func HostOn(ns *NS) *Host {
	ns.t.Helper()
	h := &Host{NS: ns, Outside: New(ns.t, "outside")}
	Join(h.NS, "up0", h.Outside, "up0")
	h.Addr("up0", HostV4+"/24", HostV6+"/64")
	h.Outside.Addr("up0", OutsideV4+"/24", OutsideV6+"/64")
	return h
}

// BridgeNF has iptables and nftables see what a bridge forwards, or not. It
// reports whether this kernel can.
func (h *Host) BridgeNF(on bool) bool {
	value := map[bool]string{true: "1", false: "0"}[on]
	for _, f := range []string{"iptables", "ip6tables"} {
		if err := h.TrySysctl("net/bridge/bridge-nf-call-"+f, value); err != nil {
			return false
		}
	}
	return true
}

// Net is a bridge of a host.
type Net struct {
	Host       *Host
	Bridge     string
	V4, V6     netip.Prefix
	GW4, GW6   string
	containers int
}

// NewNet makes a bridge as amphora does, with the first address of each subnet.
func (h *Host) NewNet(bridge, subnet4, subnet6 string) *Net {
	h.t.Helper()
	n := &Net{Host: h, Bridge: bridge, V4: netip.MustParsePrefix(subnet4), V6: netip.MustParsePrefix(subnet6)}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridge
	h.must(h.h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}), "make bridge "+bridge)
	n.GW4, n.GW6 = n.V4.Addr().Next().String(), n.V6.Addr().Next().String()
	h.Addr(bridge, fmt.Sprintf("%s/%d", n.GW4, n.V4.Bits()), fmt.Sprintf("%s/%d", n.GW6, n.V6.Bits()))
	h.Sysctl("net/ipv4/conf/"+bridge+"/route_localnet", "1")
	h.Up(bridge)
	return n
}

// Container is a namespace with "eth0" on a bridge.
type Container struct {
	*NS
	V4, V6 string
}

// NewContainer attaches a namespace, with the next addresses of the subnets and
// default routes by way of the bridge.
func (n *Net) NewContainer(name string) *Container {
	h := n.Host
	h.t.Helper()
	c := &Container{NS: New(h.t, name)}
	h.links++
	port := fmt.Sprintf("v%d", h.links)
	Join(h.NS, port, c.NS, "eth0")
	h.must(h.h.LinkSetMaster(h.Link(port), h.Link(n.Bridge)), "attach "+name)
	h.must(h.h.LinkSetHairpin(h.Link(port), true), "set hairpin")
	n.containers++
	a4, a6 := n.V4.Addr().Next(), n.V6.Addr().Next()
	for range n.containers {
		a4, a6 = a4.Next(), a6.Next()
	}
	c.V4, c.V6 = a4.String(), a6.String()
	c.Addr("eth0", fmt.Sprintf("%s/%d", a4, n.V4.Bits()), fmt.Sprintf("%s/%d", a6, n.V6.Bits()))
	c.Route("default", n.GW4)
	c.Route("default", n.GW6)
	return c
}
