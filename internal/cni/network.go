package cni

import (
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/utils"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/nft"
)

// bridgeConf is the configuration of the bridge plugin.
type bridgeConf struct {
	Bridge           string    `json:"bridge"` // default cni0, as upstream's
	IsGateway        bool      `json:"isGateway"`
	IsDefaultGateway bool      `json:"isDefaultGateway"`
	IPMasq           bool      `json:"ipMasq"`
	HairpinMode      bool      `json:"hairpinMode"`
	MTU              int       `json:"mtu"` // 0: that of the default route's interface
	DNS              types.DNS `json:"dns"`
	IPAM             struct {
		Type string `json:"type"`
	} `json:"ipam"`
	RuntimeConfig struct {
		MAC string `json:"mac"`
	} `json:"runtimeConfig"`
}

type firewallConf struct {
	IngressPolicy string `json:"ingressPolicy"` // "", open, same-bridge
	Internal      bool   `json:"internal"`      // our own: nothing is routed
}

func parseBridge(conf []byte) (*bridgeConf, error) {
	c := new(bridgeConf)
	if err := unmarshal(conf, c); err != nil {
		return nil, err
	}
	if c.Bridge == "" {
		c.Bridge = "cni0"
	}
	if err := utils.ValidateInterfaceName(c.Bridge); err != nil {
		return nil, fault.Invalid("bridge %q: %w", c.Bridge, err)
	}
	if c.MTU != 0 && (c.MTU < 68 || c.MTU > 65535) { // RFC 791's smallest datagram; the driver's limit
		return nil, fault.Invalid("mtu %d of bridge %s: it must be 68 to 65535", c.MTU, c.Bridge)
	}
	c.IsGateway = c.IsGateway || c.IsDefaultGateway
	return c, nil
}

// network is a bridge network as the kernel is to have it.
type network struct {
	name     string // of the network
	mtu      int
	gateways []netip.Prefix // addresses of the bridge
	filter   nft.Bridge
}

// forwards says whether the host routes for the network.
func (n *network) forwards() bool { return len(n.gateways) > 0 && !n.filter.Internal }

func (n *network) has4() bool {
	return slices.ContainsFunc(n.filter.Subnets, func(p netip.Prefix) bool { return p.Addr().Is4() })
}
func (n *network) has6() bool {
	return slices.ContainsFunc(n.filter.Subnets, func(p netip.Prefix) bool { return p.Addr().Is6() })
}

// networkOf reads the bridge network that a list describes, nil if its main
// plugin is not the built-in bridge. Subnets are known where the list
// tells them; an exec'd IPAM plugin's come with its result.
func networkOf(list *libcni.NetworkConfigList, p plan) (*network, error) {
	main := list.Plugins[0]
	if main.Network.Type != "bridge" || p["bridge"] != Builtin {
		return nil, nil
	}
	conf, err := parseBridge(main.Bytes)
	if err != nil {
		return nil, err
	}
	n := &network{name: list.Name, mtu: conf.MTU, filter: nft.Bridge{Name: conf.Bridge, Masquerade: conf.IPMasq}}
	if conf.IPAM.Type == "host-local" {
		h, err := parseHostLocal(main.Bytes)
		if err != nil {
			return nil, err
		}
		sets, err := h.sets()
		if err != nil {
			return nil, err
		}
		n.filter.Subnets = h.subnets()
		for _, set := range sets {
			for _, r := range set {
				if gw := netip.PrefixFrom(r.Gateway, r.Subnet.Bits()); conf.IsGateway && !slices.Contains(n.gateways, gw) {
					n.gateways = append(n.gateways, gw)
				}
			}
		}
	}
	// Without a firewall plugin nothing keeps networks apart, as upstream; what a
	// binary does is not for us to say.
	n.filter.Open = true
	for _, other := range list.Plugins[1:] {
		if other.Network.Type != "firewall" || p["firewall"] != Builtin {
			continue
		}
		var fw firewallConf
		if err := unmarshal(other.Bytes, &fw); err != nil {
			return nil, err
		}
		n.filter.Internal = fw.Internal
		n.filter.Open = fw.IngressPolicy != "same-bridge" && !fw.Internal
	}
	return n, nil
}

// BridgeOf is what the packet filter is to know of a network; false if its
// main plugin is not the built-in bridge.
func (c *CNI) BridgeOf(conflist []byte) (nft.Bridge, bool, error) {
	n, err := c.network(conflist)
	if err != nil || n == nil {
		return nft.Bridge{}, false, err
	}
	return n.filter, true, nil
}

// network is networkOf for a conflist.
func (c *CNI) network(conflist []byte) (*network, error) {
	list, err := parseList(conflist)
	if err != nil {
		return nil, err
	}
	p, err := c.resolve(list, nil)
	if err != nil {
		return nil, err
	}
	return networkOf(list, p)
}
