package cni

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/step"
)

// bridgePlugin plugs a namespace into a bridge by a cable (veth).
type bridgePlugin struct{}

func (bridgePlugin) validate(conf []byte) error {
	_, err := parseBridge(conf)
	return err
}

func (bridgePlugin) add(x *call) (*types100.Result, error) {
	conf, err := parseBridge(x.conf)
	if err != nil {
		return nil, err
	}
	n, err := networkOf(x.list, x.plan)
	if err != nil {
		return nil, err
	}
	ns, err := openNetNS(x.netns)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	result := &types100.Result{CNIVersion: types100.ImplementedSpecVersion}
	if conf.IPAM.Type != "" {
		if result, err = x.ipamDo("ADD", conf.IPAM.Type); err != nil {
			return nil, err
		}
		if len(result.IPs) == 0 {
			return nil, fault.Invalid("IPAM plugin %s gave no address", conf.IPAM.Type)
		}
	}
	n.complete(conf, result)
	h, err := openNetlink()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	bridge, err := x.c.ensure(x.ctx, h, n, false)
	if err != nil {
		return nil, err
	}
	step.At("cni.add.bridged")
	mac, err := macOf(conf.RuntimeConfig.MAC, result)
	if err != nil {
		return nil, err
	}
	cable, err := x.plug(h, bridge, ns, mac, conf.HairpinMode)
	if err != nil {
		return nil, err
	}
	if err := x.ctx.Err(); err != nil {
		return nil, err
	}
	if err := withNetlink(ns, func(h *netlink.Handle) error { return x.configure(h, result, false) }); err != nil {
		return nil, err
	}
	step.At("cni.add.configured")
	result.DNS = conf.DNS
	result.Interfaces = []*types100.Interface{
		{Name: n.filter.Name, Mac: bridge.Attrs().HardwareAddr.String(), Mtu: bridge.Attrs().MTU},
		{Name: cable, Mtu: bridge.Attrs().MTU},
		{Name: x.ifname, Mac: mac.String(), Mtu: bridge.Attrs().MTU, Sandbox: x.netns},
	}
	for _, ip := range result.IPs {
		ip.Interface = types100.Int(2)
	}
	return result, nil
}

// complete adds what only the result of an exec'd IPAM plugin tells.
func (n *network) complete(conf *bridgeConf, result *types100.Result) {
	for _, ip := range result.IPs {
		p := prefixOf(ip.Address)
		if !slices.Contains(n.filter.Subnets, p.Masked()) {
			n.filter.Subnets = append(n.filter.Subnets, p.Masked())
		}
		if gw, ok := netip.AddrFromSlice(ip.Gateway); ok && conf.IsGateway {
			if gw := netip.PrefixFrom(gw.Unmap(), p.Bits()); !slices.Contains(n.gateways, gw) {
				n.gateways = append(n.gateways, gw)
			}
		}
	}
	if conf.IsDefaultGateway {
		addDefaultRoutes(result)
	}
}

// macOf is the address that was asked for, or one made of the IP address: who
// gets a used address gets the entry in the neighbours' caches with it.
func macOf(asked string, result *types100.Result) (net.HardwareAddr, error) {
	if asked != "" {
		mac, err := net.ParseMAC(asked)
		if err != nil {
			return nil, fault.Invalid("MAC address %q: %w", asked, err)
		}
		return mac, nil
	}
	mac := net.HardwareAddr{0x02, 0x42, 0, 0, 0, 0}
	rand.Read(mac[2:])
	for i, ip := range result.IPs {
		a := prefixOf(ip.Address).Addr()
		if a.Is4() {
			copy(mac[2:], a.AsSlice())
			break
		}
		if i == 0 {
			sum := sha256.Sum256(a.AsSlice())
			copy(mac[2:], sum[:])
		}
	}
	return mac, nil
}

// hostEnd finds the host's end of an attachment's cable: as the result has it,
// or by its mark, which takes a dump of all links. Nil if there is none.
func (x *call) hostEnd(h *netlink.Handle) (netlink.Link, error) {
	name := x.hostLink
	if x.prev != nil {
		for _, i := range x.prev.Interfaces {
			if i.Sandbox == "" && strings.HasPrefix(i.Name, cable) {
				name = i.Name
			}
		}
	}
	if name != "" {
		link, err := h.LinkByName(name)
		if isNotFound(err) {
			return nil, nil
		}
		if err == nil && !x.undoing && link.Attrs().Alias != x.c.alias(x.owner()) {
			return nil, nil // the name was given to another
		}
		return link, fault.Opaque(err)
	}
	if x.undoing {
		return nil, nil
	}
	all, err := dump(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", fault.Opaque(err))
	}
	for _, link := range all {
		if link.Attrs().Alias == x.c.alias(x.owner()) {
			return link, nil
		}
	}
	return nil, nil
}

// del pulls the cable, unless the namespace takes it along, and gives the
// address back last.
func (bridgePlugin) del(x *call) error {
	conf, err := parseBridge(x.conf)
	if err != nil {
		return err
	}
	if x.netns != "" {
		h, err := openNetlink()
		if err != nil {
			return err
		}
		defer h.Close()
		link, err := x.hostEnd(h)
		if err == nil && link != nil {
			err = pull(h, link)
		}
		if err != nil && !isNotFound(err) {
			return fmt.Errorf("remove the link of %s: %w", x.key(), fault.Opaque(err))
		}
	}
	step.At("cni.del.link")
	if conf.IPAM.Type == "" {
		return nil
	}
	_, err = x.ipamDo("DEL", conf.IPAM.Type)
	return err
}
