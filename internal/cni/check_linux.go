package cni

import (
	"net"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/amphora-go/amphora/internal/fault"
)

// check looks at both ends of the cable, the bridge and the lease.
func (bridgePlugin) check(x *call) error {
	conf, err := parseBridge(x.conf)
	if err != nil {
		return err
	}
	n, err := networkOf(x.list, x.plan)
	if err != nil {
		return err
	}
	h, err := openNetlink()
	if err != nil {
		return err
	}
	defer h.Close()
	bridge, err := checkBridge(h, n)
	if err != nil {
		return err
	}
	cable, err := x.hostEnd(h)
	if err != nil {
		return err
	}
	if cable == nil {
		return fault.Invalid("the cable of %s to bridge %s is gone", x.key(), conf.Bridge)
	}
	if a := cable.Attrs(); a.MasterIndex != bridge.Attrs().Index || a.Flags&net.FlagUp == 0 {
		return fault.Invalid("link %s of %s is down or not plugged into bridge %s", a.Name, x.key(), conf.Bridge)
	}
	return x.checkAttached("veth", conf.IPAM.Type)
}

// checkAttached looks at the interface in the namespace, and has the IPAM
// plugin, if there is one, look at the lease.
func (x *call) checkAttached(kind, ipamType string) error {
	err := inside(x.netns, func(h *netlink.Handle) error { return x.checkInside(h, kind) })
	if err != nil || ipamType == "" {
		return err
	}
	_, err = x.ipamDo("CHECK", ipamType)
	return err
}

// checkBridge wants the bridge up and with its addresses.
func checkBridge(h *netlink.Handle, n *network) (netlink.Link, error) {
	bridge, err := findBridge(h, n.filter.Name)
	if err != nil {
		return nil, err
	}
	if bridge == nil || bridge.Attrs().Flags&net.FlagUp == 0 {
		return nil, fault.Invalid("bridge %s of network %s is gone or down: reload the networks", n.filter.Name, n.name)
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return h.AddrList(bridge, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fault.Opaque(err)
	}
	for _, gw := range n.gateways {
		if !slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return prefixOf(*a.IPNet) == gw }) {
			return nil, fault.Invalid("bridge %s of network %s has lost its address %s: reload the networks", n.filter.Name, n.name, gw)
		}
	}
	return bridge, nil
}

// status says whether ADD can work: the bridge, where there is one, is a
// bridge, and the host routes or can be made to.
func (bridgePlugin) status(x *call) error {
	conf, err := parseBridge(x.conf)
	if err != nil {
		return err
	}
	h, err := openNetlink()
	if err != nil {
		return err
	}
	defer h.Close()
	if _, err := findBridge(h, conf.Bridge); err != nil {
		return err
	}
	if _, err := x.c.opts.Table.Owners(); err != nil {
		return err
	}
	if conf.IPAM.Type == "" {
		return nil
	}
	return x.ipamOptional("STATUS", conf.IPAM.Type)
}
