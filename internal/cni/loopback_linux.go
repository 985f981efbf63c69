package cni

import (
	"fmt"
	"net"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/amphora-go/amphora/internal/fault"
)

// Loopback brings up the loopback interface of a namespace.
func Loopback(netns string) error {
	return inside(netns, func(h *netlink.Handle) error {
		// Index 1 in every namespace.
		lo := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo", Index: 1}}
		if err := h.LinkSetUp(lo); err != nil {
			return fmt.Errorf("bring up lo in %s: %w", netns, fault.Opaque(err))
		}
		return nil
	})
}

// loopbackPlugin brings up lo; conflists of others begin with it.
type loopbackPlugin struct{}

func (loopbackPlugin) validate([]byte) error { return nil }

func (loopbackPlugin) add(x *call) (*types100.Result, error) {
	if err := Loopback(x.netns); err != nil {
		return nil, err
	}
	if x.prev != nil {
		return x.prev, nil
	}
	v4 := net.IPNet{IP: net.IPv4(127, 0, 0, 1).To4(), Mask: net.CIDRMask(8, 32)}
	v6 := net.IPNet{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)}
	return &types100.Result{
		CNIVersion: types100.ImplementedSpecVersion,
		Interfaces: []*types100.Interface{{Name: x.ifname, Mac: "00:00:00:00:00:00", Sandbox: x.netns}},
		IPs:        []*types100.IPConfig{{Interface: types100.Int(0), Address: v4}, {Interface: types100.Int(0), Address: v6}},
	}, nil
}

func (loopbackPlugin) check(x *call) error {
	return inside(x.netns, func(h *netlink.Handle) error {
		lo, err := h.LinkByName("lo")
		if err != nil {
			return fault.Opaque(err)
		}
		if lo.Attrs().Flags&net.FlagUp == 0 {
			return fault.Invalid("lo of %s is down", x.id)
		}
		return nil
	})
}

func (loopbackPlugin) del(*call) error       { return nil }
func (loopbackPlugin) gc(*call, []Key) error { return nil }
func (loopbackPlugin) status(*call) error    { return nil }
