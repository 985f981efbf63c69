package cni

import (
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/utils"

	"github.com/amphora-go/amphora/internal/fault"
)

func (req *Request) key() Key { return Key{ID: req.ID, IfName: req.IfName} }

// validKey refuses what would name files elsewhere.
func (req *Request) validKey() error {
	if err := utils.ValidateContainerID(req.ID); err != nil {
		return fault.Invalid("container id %q: %w", req.ID, err)
	}
	if err := utils.ValidateInterfaceName(req.IfName); err != nil {
		return fault.Invalid("interface %q: %w", req.IfName, err)
	}
	return nil
}

// valid says what of a request the list cannot do.
func (req *Request) valid(list *libcni.NetworkConfigList) error {
	if err := req.validKey(); err != nil {
		return err
	}
	if req.NetNS == "" {
		return fault.Invalid("attaching %s to network %s needs the path of a network namespace", req.key(), list.Name)
	}
	if n := len(req.MAC); n != 0 && (n != 6 || req.MAC[0]&1 != 0) {
		return fault.Invalid("MAC address %s: it must have 6 bytes and not be a multicast one", req.MAC)
	}
	for _, p := range req.Ports {
		if !slices.Contains([]string{"tcp", "udp", "sctp"}, p.Protocol) {
			return fault.Invalid("published port %d: protocol %q is none of tcp, udp, sctp", p.HostPort, p.Protocol)
		}
		if p.HostPort == 0 || p.Container == 0 {
			return fault.Invalid("published port %d->%d/%s: ports are 1 to 65535", p.HostPort, p.Container, p.Protocol)
		}
	}
	if len(req.Addresses) > 2 {
		return fault.Invalid("%d addresses are asked for; an interface can have one of each family", len(req.Addresses))
	}
	for _, want := range []struct {
		capability, what string
		wanted           bool
	}{
		{"ips", "chosen addresses", len(req.Addresses) > 0},
		{"mac", "a chosen MAC address", len(req.MAC) > 0},
		{"portMappings", "published ports", len(req.Ports) > 0},
		{"bandwidth", "bandwidth limits", req.Bandwidth != nil && *req.Bandwidth != Bandwidth{}},
	} {
		if want.wanted && !hasCapability(list, want.capability) {
			return fault.Unsupported("network %s cannot do %s: none of its plugins declares the capability %q", list.Name, want.what, want.capability)
		}
	}
	return nil
}

func hasCapability(list *libcni.NetworkConfigList, name string) bool {
	return slices.ContainsFunc(list.Plugins, func(p *libcni.PluginConfig) bool { return p.Network.Capabilities[name] })
}

// portMapping and bandwidthConf are the conventional capability arguments.
type portMapping struct {
	HostPort      uint16 `json:"hostPort"`
	ContainerPort uint16 `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP,omitempty"`
}

type bandwidthConf struct {
	IngressRate  uint64 `json:"ingressRate,omitempty"`
	IngressBurst uint64 `json:"ingressBurst,omitempty"`
	EgressRate   uint64 `json:"egressRate,omitempty"`
	EgressBurst  uint64 `json:"egressBurst,omitempty"`
}

// runtimeConf is the request in libcni's words. The plan goes along into the
// cache.
func (req *Request) runtimeConf(list *libcni.NetworkConfigList, p plan) *libcni.RuntimeConf {
	args := map[string]any{}
	for name, value := range req.Capabilities {
		args[name] = value
	}
	if len(req.Addresses) > 0 {
		args["ips"] = withLengths(list, req.Addresses)
	}
	if len(req.MAC) > 0 {
		args["mac"] = req.MAC.String()
	}
	if len(req.Aliases) > 0 {
		args["aliases"] = req.Aliases
	}
	if len(req.Ports) > 0 {
		var mappings []portMapping
		for _, port := range req.Ports {
			m := portMapping{HostPort: port.HostPort, ContainerPort: port.Container, Protocol: port.Protocol}
			if port.Host.IsValid() {
				m.HostIP = port.Host.String()
			}
			mappings = append(mappings, m)
		}
		args["portMappings"] = mappings
	}
	if b := req.Bandwidth; b != nil && *b != (Bandwidth{}) {
		args["bandwidth"] = bandwidthConf(*b)
	}
	if p != nil {
		args[planKey] = p
	}
	return &libcni.RuntimeConf{ContainerID: req.ID, NetNS: req.NetNS, IfName: req.IfName, Args: req.args(), CapabilityArgs: args}
}

func (req *Request) args() [][2]string {
	// Binaries refuse arguments that they do not know unless told not to.
	if len(req.Args) == 0 {
		return nil
	}
	return append([][2]string{{"IgnoreUnknown", "1"}}, req.Args...)
}

// withLengths gives addresses the length of their subnet where the list tells
// it: IPAM plugins other than host-local want that.
func withLengths(list *libcni.NetworkConfigList, addresses []netip.Addr) []string {
	var subnets []netip.Prefix
	for _, conf := range list.Plugins {
		if h, err := parseHostLocal(conf.Bytes); err == nil {
			subnets = append(subnets, h.subnets()...)
		}
	}
	var all []string
	for _, a := range addresses {
		text := a.String()
		for _, s := range subnets {
			if s.Contains(a) {
				text = netip.PrefixFrom(a, s.Bits()).String()
				break
			}
		}
		all = append(all, text)
	}
	return all
}

// bandwidthPluginConf is the configuration of the bandwidth plugin: fixed
// limits, or those of the attachment.
type bandwidthPluginConf struct {
	bandwidthConf
	RuntimeConfig struct {
		Bandwidth *bandwidthConf `json:"bandwidth"`
	} `json:"runtimeConfig"`
}

func parseBandwidth(conf []byte) (*bandwidthConf, error) {
	c := new(bandwidthPluginConf)
	if err := unmarshal(conf, c); err != nil {
		return nil, err
	}
	b := &c.bandwidthConf
	if c.RuntimeConfig.Bandwidth != nil {
		b = c.RuntimeConfig.Bandwidth
	}
	for _, rate := range []uint64{b.IngressRate, b.EgressRate} {
		if rate != 0 && rate < 8000 {
			return nil, fault.Invalid("bandwidth of %d bit/s: the least is 8000", rate)
		}
	}
	return b, nil
}
