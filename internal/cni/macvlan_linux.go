package cni

import (
	"errors"
	"fmt"
	"net"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/step"
)

// macvlanPlugin gives the namespace an interface of its own on one of the
// host's, so that the container is a station of that network. Nothing of it is
// on the host: it goes with the namespace, and GC has only leases to collect.
type macvlanPlugin struct{}

type macvlanConf struct {
	Master string    `json:"master"` // default: the default route's interface
	Mode   string    `json:"mode"`   // bridge (default), private, vepa, passthru
	MTU    int       `json:"mtu"`    // 0: the master's
	DNS    types.DNS `json:"dns"`
	IPAM   struct {
		Type string `json:"type"`
	} `json:"ipam"`
	RuntimeConfig struct {
		MAC string `json:"mac"`
	} `json:"runtimeConfig"`
}

func parseMacvlan(conf []byte) (*macvlanConf, netlink.MacvlanMode, error) {
	c := new(macvlanConf)
	if err := unmarshal(conf, c); err != nil {
		return nil, 0, err
	}
	mode, ok := map[string]netlink.MacvlanMode{"": netlink.MACVLAN_MODE_BRIDGE, "bridge": netlink.MACVLAN_MODE_BRIDGE,
		"private": netlink.MACVLAN_MODE_PRIVATE, "vepa": netlink.MACVLAN_MODE_VEPA, "passthru": netlink.MACVLAN_MODE_PASSTHRU}[c.Mode]
	if !ok {
		return nil, 0, fault.Invalid("macvlan mode %q is none of bridge, private, vepa, passthru", c.Mode)
	}
	return c, mode, nil
}

func (macvlanPlugin) validate(conf []byte) error {
	_, _, err := parseMacvlan(conf)
	return err
}

// parent is the link that the configuration names.
func (c *macvlanConf) parent(h *netlink.Handle) (netlink.Link, error) {
	if c.Master == "" {
		if link := defaultLink(h); link != nil {
			return link, nil
		}
		return nil, fault.Invalid("macvlan without a master needs a default route, and this machine has none: name the master")
	}
	link, err := h.LinkByName(c.Master)
	if isNotFound(err) {
		return nil, fault.Invalid("macvlan master %s: no such link", c.Master)
	}
	return link, fault.Opaque(err)
}

func (macvlanPlugin) add(x *call) (*types100.Result, error) {
	conf, mode, err := parseMacvlan(x.conf)
	if err != nil {
		return nil, err
	}
	h, err := openNetlink()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	parent, err := conf.parent(h)
	if err != nil {
		return nil, err
	}
	if conf.MTU < 0 || conf.MTU > parent.Attrs().MTU {
		return nil, fault.Invalid("mtu %d: that of master %s is %d", conf.MTU, parent.Attrs().Name, parent.Attrs().MTU)
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
	}
	mac, err := macOf(conf.RuntimeConfig.MAC, result)
	if err != nil {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.MTU = x.ifname, parent.Attrs().Index, conf.MTU
	attrs.HardwareAddr, attrs.Namespace = mac, netlink.NsFd(ns.Fd())
	if mode == netlink.MACVLAN_MODE_PASSTHRU {
		attrs.HardwareAddr = nil // it has the master's
		mac = parent.Attrs().HardwareAddr
	}
	if err := h.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: mode}); err != nil {
		if errors.Is(err, unix.EEXIST) {
			return nil, fault.Invalid("the namespace of %s has an interface %s already", x.id, x.ifname)
		}
		return nil, linkError(err, "make a macvlan of "+parent.Attrs().Name+" for "+x.key().String())
	}
	x.hostLink = x.ifname // of ours: undo may remove it
	step.At("cni.add.linked")
	if err := withNetlink(ns, func(h *netlink.Handle) error { return x.configure(h, result, true) }); err != nil {
		return nil, err
	}
	result.DNS = conf.DNS
	result.Interfaces = []*types100.Interface{{Name: x.ifname, Mac: mac.String(), Mtu: conf.MTU, Sandbox: x.netns}}
	for _, ip := range result.IPs {
		ip.Interface = types100.Int(0)
	}
	return result, nil
}

func (macvlanPlugin) check(x *call) error {
	conf, _, err := parseMacvlan(x.conf)
	if err != nil {
		return err
	}
	return x.checkAttached("macvlan", conf.IPAM.Type)
}

func (macvlanPlugin) del(x *call) error {
	conf, _, err := parseMacvlan(x.conf)
	if err != nil {
		return err
	}
	if x.netns != "" && !(x.undoing && x.hostLink == "") {
		if err := x.removeInside("macvlan"); err != nil {
			return err
		}
	}
	step.At("cni.del.link")
	if conf.IPAM.Type == "" {
		return nil
	}
	_, err = x.ipamDo("DEL", conf.IPAM.Type)
	return err
}

// removeInside removes the interface from the namespace, if it is of that kind.
func (x *call) removeInside(kind string) error {
	ns, err := openNetNS(x.netns)
	if err != nil {
		return nil // gone, and the interface with it
	}
	defer ns.Close()
	return withNetlink(ns, func(h *netlink.Handle) error {
		link, err := h.LinkByName(x.ifname)
		if isNotFound(err) {
			return nil
		}
		if err == nil && link.Type() == kind && link.Attrs().Flags&net.FlagLoopback == 0 {
			err = h.LinkDel(link)
		}
		if err != nil && !isNotFound(err) {
			return fmt.Errorf("remove %s from the namespace of %s: %w", x.ifname, x.id, fault.Opaque(err))
		}
		return nil
	})
}

func (macvlanPlugin) gc(x *call, _ []Key) error {
	conf, _, err := parseMacvlan(x.conf)
	if err != nil || conf.IPAM.Type == "" {
		return err
	}
	return x.ipamOptional("GC", conf.IPAM.Type)
}

func (macvlanPlugin) status(x *call) error {
	conf, _, err := parseMacvlan(x.conf)
	if err != nil {
		return err
	}
	h, err := openNetlink()
	if err != nil {
		return err
	}
	defer h.Close()
	if _, err = conf.parent(h); err != nil || conf.IPAM.Type == "" {
		return err
	}
	return x.ipamOptional("STATUS", conf.IPAM.Type)
}
