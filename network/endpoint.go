package network

import (
	"encoding/json"
	"net"
	"net/netip"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/networks"
	"github.com/amphora-go/amphora/internal/record"
)

// Networks that always exist. None and Host can only be a container's single
// Endpoint.
const (
	None   = "none"           // a loopback interface and nothing else
	Host   = "host"           // the host's own interfaces
	Bridge = networks.Default // the default network: bridged, no names
)

// containerPrefix begins the Network of a container that joins another's.
const containerPrefix = "container:"

// Container is the Network of a container that shares the network of another
// one, by its name or id.
func Container(ref string) string { return containerPrefix + ref }

// Endpoint is one connection of a container to a network. Only Network must be
// given.
type Endpoint struct {
	// Network is a network's name, id or unique beginning of an id; None, Host
	// or Container(ref).
	Network string `json:"network"`
	// Addresses are fixed ones, at most one of IPv4 and one of IPv6. They stay
	// reserved for the container until it is removed or disconnected. Empty:
	// any, and the same ones again after a restart where they are free.
	Addresses []netip.Addr `json:"addresses,omitempty"`
	// MAC is the interface's hardware address, "02:42:0a:d2:00:05". Empty: made
	// from the IPv4 address.
	MAC string `json:"mac,omitempty"`
	// Aliases are further names of the container on this network. Several
	// containers may have the same one: all addresses are answered, in turns.
	Aliases []string `json:"aliases,omitempty"`
	// Priority orders a container's networks: the highest gives the default
	// route and the published ports, and is the first interface. Equal ones
	// are taken as they are given.
	Priority  int       `json:"priority,omitempty"`
	Bandwidth Bandwidth `json:"bandwidth,omitzero"`
}

// Bandwidth limits what a container receives (Ingress) and sends (Egress), in
// bytes per second. Bursts are bytes that may pass at once; 0: a tenth of a
// second's worth. A zero rate is no limit.
type Bandwidth struct {
	Ingress      uint64 `json:"ingress,omitempty"`
	IngressBurst uint64 `json:"ingressBurst,omitempty"`
	Egress       uint64 `json:"egress,omitempty"`
	EgressBurst  uint64 `json:"egressBurst,omitempty"`
}

// Joined returns whose network the endpoint shares, if it shares one.
func (e Endpoint) Joined() (ref string, ok bool) {
	return strings.CutPrefix(e.Network, containerPrefix)
}

// Own says whether the endpoint is an interface of the container's own, on a
// network, and not a mode.
func (e Endpoint) Own() bool {
	_, joined := e.Joined()
	return !joined && e.Network != None && e.Network != Host
}

// Validate checks the endpoint without looking at the machine.
func (e Endpoint) Validate() error {
	if ref, ok := e.Joined(); ok && ref == "" || e.Network == "" {
		return fault.Invalid("network %q: name a network, or use bridge, none, host, or container:NAME", e.Network)
	}
	if !e.Own() {
		if len(e.Addresses) > 0 || e.MAC != "" || len(e.Aliases) > 0 || e.Bandwidth != (Bandwidth{}) {
			return fault.Invalid("network %s: addresses, aliases and limits are for networks that give the container an interface of its own", e.Network)
		}
		return nil
	}
	var v4, v6 bool
	for _, a := range e.Addresses {
		if !a.IsValid() || a.Is4() && v4 || a.Is6() && v6 {
			return fault.Invalid("network %s: give at most one IPv4 and one IPv6 address", e.Network)
		}
		v4, v6 = v4 || a.Is4(), v6 || a.Is6()
	}
	if e.MAC != "" {
		mac, err := net.ParseMAC(e.MAC)
		if err != nil || len(mac) != 6 {
			return fault.Invalid("network %s: %q is no MAC address: write it like 02:42:0a:d2:00:05", e.Network, e.MAC)
		}
		if mac[0]&1 != 0 {
			return fault.Invalid("network %s: the MAC address %s is one for groups: its first byte must be even", e.Network, e.MAC)
		}
	}
	for _, a := range e.Aliases {
		if err := checkHostName(a); err != nil {
			return fault.Invalid("network %s: alias %q: %w", e.Network, a, err)
		}
	}
	return nil
}

// checkHostName allows what resolvers pass on: labels of letters, digits, '-'
// and '_'.
func checkHostName(name string) error {
	if len(name) == 0 || len(name) > 253 {
		return fault.Invalid("give 1 to 253 characters")
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if label == "" || len(label) > 63 || strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return fault.Invalid("use letters, digits, '-', '_', and dots between")
		}
	}
	return nil
}

// Record is the endpoint as a container's record has it. Programs have no use
// for it.
func (e Endpoint) Record() record.Endpoint {
	return record.Endpoint{Network: e.Network, Addresses: e.Addresses, MAC: e.MAC, Aliases: e.Aliases, Priority: e.Priority, Bandwidth: record.Bandwidth(e.Bandwidth)}
}

// Subnet is a range of addresses of a network, of either family.
type Subnet struct {
	Prefix   netip.Prefix `json:"prefix"`             // 10.1.2.0/24
	Gateway  netip.Addr   `json:"gateway,omitzero"`   // of the bridge; zero: the first address
	Range    netip.Prefix `json:"range,omitzero"`     // where automatic addresses are taken from; zero: all of Prefix
	Reserved []netip.Addr `json:"reserved,omitempty"` // that no container gets
}

// Isolation of a network from others, of the same Root.
const (
	Isolated = ""     // containers of other networks reach published ports only
	Routed   = "none" // traffic is routed to and from all other networks with this value
)

// Spec says what network to make. The zero value of every field but Name is
// its default. It is plain data, the same as JSON.
type Spec struct {
	Name string `json:"name"`
	// Driver is "bridge", which is the default, "macvlan", or the type of a CNI
	// plugin in one of the directories of Settings.Plugins (package amphora).
	Driver string            `json:"driver,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	// Options of the driver. bridge: "bridge.name", the interface on the host.
	// macvlan: "parent", an interface of the host, default that of the default
	// route; "mode". Others: fields of the plugin's configuration, values in
	// JSON where they are valid JSON.
	Options map[string]string `json:"options,omitempty"`
	// Subnets, at most one of each family. Without any, a free one of IPv4 is
	// chosen from the address pools of the Root; with one of IPv6 alone the
	// network has no IPv4.
	Subnets []Subnet `json:"subnets,omitempty"`
	// IPv6 gives the network a subnet of IPv6 as well, chosen if none is given.
	IPv6 bool `json:"ipv6,omitempty"`
	// Internal networks have no way out: no default route, nothing forwarded,
	// no names of the world.
	Internal  bool   `json:"internal,omitempty"`
	Isolation string `json:"isolation,omitempty"` // Isolated or Routed
	MTU       int    `json:"mtu,omitempty"`       // bytes; 0: that of the interface with the default route
	// Conflist is a whole CNI configuration list, instead of all but Name and
	// Labels.
	Conflist json.RawMessage `json:"conflist,omitempty"`
}

func (spec *Spec) internal() (*networks.Spec, error) {
	if spec == nil {
		return nil, fault.Invalid("a network needs a name")
	}
	if spec.Isolation != Isolated && spec.Isolation != Routed {
		return nil, fault.Invalid("isolation %q: leave it empty, or %q", spec.Isolation, Routed)
	}
	s := &networks.Spec{Name: spec.Name, Driver: spec.Driver, Labels: spec.Labels, Options: spec.Options, IPv6: spec.IPv6,
		Internal: spec.Internal, Open: spec.Isolation == Routed, MTU: spec.MTU, Conflist: spec.Conflist}
	for _, sub := range spec.Subnets {
		s.Subnets = append(s.Subnets, networks.Subnet(sub))
	}
	return s, nil
}
