package cni

import (
	"net/netip"
	"reflect"
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/nft"
	"github.com/amphora-go/amphora/internal/step"
)

// portmapPlugin publishes ports: elements of the filter's maps, owned by
// "network/id/interface".
type portmapPlugin struct{}

type portmapConf struct {
	RuntimeConfig struct {
		PortMappings []portMapping `json:"portMappings"`
	} `json:"runtimeConfig"`
}

func (portmapPlugin) validate(conf []byte) error { return unmarshal(conf, new(portmapConf)) }

// portsOf translates what is to be published to the addresses of an attachment.
// A host address of a family that the attachment lacks gives no element: no
// rule translates between families. ::1 cannot be translated at all; for both
// the supervisor's socket serves.
func portsOf(conf []byte, result *types100.Result) ([]nft.Port, error) {
	var c portmapConf
	if err := unmarshal(conf, &c); err != nil {
		return nil, err
	}
	var targets []netip.Addr // the first of each family
	for _, ip := range result.IPs {
		a := prefixOf(ip.Address).Addr()
		if !slices.ContainsFunc(targets, func(t netip.Addr) bool { return t.Is4() == a.Is4() }) {
			targets = append(targets, a)
		}
	}
	var ports []nft.Port
	for _, m := range c.RuntimeConfig.PortMappings {
		if m.HostPort == 0 {
			continue // upstream's portmap does so, too
		}
		var host netip.Addr
		if m.HostIP != "" {
			var err error
			if host, err = netip.ParseAddr(m.HostIP); err != nil {
				return nil, fault.Invalid("published port %d: host address %q: %w", m.HostPort, m.HostIP, err)
			}
			host = host.Unmap()
		}
		if host == netip.IPv6Loopback() {
			continue
		}
		for _, to := range targets {
			if host.IsValid() && host.Is4() != to.Is4() {
				continue
			}
			port := nft.Port{Protocol: m.Protocol, HostPort: m.HostPort, To: netip.AddrPortFrom(to, m.ContainerPort)}
			if host.IsValid() && !host.IsUnspecified() {
				port.Host = host
			}
			ports = append(ports, port)
		}
	}
	return ports, nil
}

func (portmapPlugin) add(x *call) (*types100.Result, error) {
	if x.prev == nil {
		return nil, fault.Invalid("portmap must come after a plugin that gives addresses")
	}
	ports, err := portsOf(x.conf, x.prev)
	if err != nil {
		return nil, err
	}
	if len(ports) > 0 {
		if err := x.c.opts.Table.AddPorts(x.owner(), ports); err != nil {
			return nil, err
		}
		x.ports = ports
	}
	step.At("cni.add.ports")
	return x.prev, nil
}

func (portmapPlugin) check(x *call) error {
	if x.prev == nil {
		return nil
	}
	ports, err := portsOf(x.conf, x.prev)
	if err != nil || len(ports) == 0 {
		return err
	}
	owners, err := x.c.opts.Table.Owners()
	if err != nil {
		return err
	}
	for _, p := range ports {
		if !slices.ContainsFunc(owners[x.owner()], func(have nft.Port) bool { return reflect.DeepEqual(have, p) }) {
			return fault.Invalid("port %d/%s of %s is not in the packet filter: reload the networks", p.HostPort, p.Protocol, x.owner())
		}
	}
	return nil
}

// del removes what ADD added. What is not known is whatever carries the owner's
// name, which takes a dump of all.
func (portmapPlugin) del(x *call) (err error) {
	ports, unknown := x.ports, x.lost || x.prev == nil
	switch {
	case x.undoing:
		unknown = false
	case !unknown:
		if ports, err = portsOf(x.conf, x.prev); err != nil {
			return err
		}
	}
	if len(ports) > 0 || unknown {
		err = x.c.opts.Table.RemovePorts(x.owner(), ports)
	}
	step.At("cni.del.ports")
	return err
}

func (portmapPlugin) gc(x *call, valid []Key) error {
	owners, err := x.c.opts.Table.Owners()
	if err != nil {
		return err
	}
	for owner, ports := range owners {
		if k, ours := isOf(owner, x.list.Name); ours && !slices.Contains(valid, k) {
			step.At("cni.gc.ports")
			if err := x.c.opts.Table.RemovePorts(owner, ports); err != nil {
				return err
			}
		}
	}
	return nil
}

func (portmapPlugin) status(x *call) error {
	_, err := x.c.opts.Table.Owners()
	return err
}
