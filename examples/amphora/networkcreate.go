package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/amphora-go/amphora/network"
)

var networkCreate = command{
	name: "create", args: "NETWORK", summary: "Create a network",
	min: 1, max: 1,
	setup: func(f *flags) action {
		var o networkOptions
		o.define(f)
		return func(ctx context.Context, a *app, args []string) error {
			o.spec.Name = args[0]
			if err := o.complete(a.stdin); err != nil {
				return err
			}
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			n, err := eng.Networks().Create(ctx, &o.spec)
			if err == nil {
				fmt.Fprintln(a.stdout, n.ID())
			}
			return err
		}
	},
}

// networkOptions are the flags of network create.
type networkOptions struct {
	spec                               network.Spec
	subnets, gateways, ranges, reserve []string
	labels, opts                       []string
	conflist                           string
	attachable                         bool
}

func (o *networkOptions) define(f *flags) {
	f.bool(&o.attachable, "attachable", "Accepted for Docker's sake: all networks are")
	f.list(&o.reserve, "aux-address", "Reserve an address, that no container gets (`name=ip`)")
	f.text(&o.conflist, "conflist", "Take all but name and labels from this `file`, a CNI configuration list; - is standard input")
	f.text(&o.spec.Driver, "d,driver", "`Driver` to manage the network: bridge (default), macvlan, or the type of a CNI plugin")
	f.list(&o.gateways, "gateway", "IPv4 or IPv6 `address` of the gateway of the subnet that it lies in")
	f.bool(&o.spec.Internal, "internal", "Restrict external access to the network")
	f.list(&o.ranges, "ip-range", "Allocate container ip from a sub-`range` of a subnet, in CIDR format")
	f.bool(&o.spec.IPv6, "ipv6", "Enable IPv6 address assignment")
	f.text(&o.spec.Isolation, "isolation", "`none`: route traffic to and from other networks that say so (default: published ports only)")
	f.list(&o.labels, "label", "Set metadata on a network (`key=value`)")
	value(f, &o.spec.MTU, "mtu", "Largest packet (`bytes`; default: as the interface with the default route)", parseNumber[int])
	f.list(&o.opts, "o,opt", "Set driver specific options (`key=value`)")
	f.list(&o.subnets, "subnet", "`Subnet` in CIDR format, one of each family (default: a free one)")
}

// complete makes a Spec of what the flags say.
func (o *networkOptions) complete(stdin io.Reader) (err error) {
	if o.spec.Labels, err = labels(nil, o.labels); err != nil {
		return err
	}
	if o.spec.Options, err = driverOptions(o.opts); err != nil {
		return err
	}
	if err := o.completeSubnets(); err != nil {
		return err
	}
	switch o.conflist {
	case "":
	case "-":
		o.spec.Conflist, err = io.ReadAll(stdin)
	default:
		o.spec.Conflist, err = os.ReadFile(o.conflist)
	}
	return err
}

// completeSubnets reads the subnets, and gives each what lies in it.
func (o *networkOptions) completeSubnets() error {
	for s := range separated(o.subnets) {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return fmt.Errorf("--subnet %q: give one in CIDR format, such as 10.1.2.0/24", s)
		}
		o.spec.Subnets = append(o.spec.Subnets, network.Subnet{Prefix: p})
	}
	for s := range separated(o.gateways) {
		sub, addr, err := o.holding("--gateway", s)
		if err != nil {
			return err
		}
		sub.Gateway = addr
	}
	for s := range separated(o.reserve) {
		_, s, _ = strings.Cut(s, "=")
		sub, addr, err := o.holding("--aux-address", s)
		if err != nil {
			return err
		}
		sub.Reserved = append(sub.Reserved, addr)
	}
	for s := range separated(o.ranges) {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return fmt.Errorf("--ip-range %q: give one in CIDR format, such as 10.1.2.128/25", s)
		}
		sub, _, err := o.holding("--ip-range", p.Addr().String())
		if err != nil {
			return err
		}
		sub.Range = p
	}
	return nil
}

// holding finds the subnet that an address lies in.
func (o *networkOptions) holding(flag, s string) (*network.Subnet, netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return nil, addr, fmt.Errorf("%s: %q is no IP address", flag, s)
	}
	for i := range o.spec.Subnets {
		if sub := &o.spec.Subnets[i]; sub.Prefix.Contains(addr) {
			return sub, addr, nil
		}
	}
	return nil, addr, fmt.Errorf("%s %s: no matching subnet; give it with --subnet", flag, s)
}
