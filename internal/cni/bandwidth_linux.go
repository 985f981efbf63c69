package cni

import (
	"fmt"
	"math"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/step"
)

// bandwidthPlugin limits by token buckets (tbf): what the container receives at
// the host's end of its cable, what it sends at its own end. That needs nothing
// to be cleaned up, and no ifb; a container that was given CAP_NET_ADMIN can
// lift the limit of what it sends.
type bandwidthPlugin struct{}

func (bandwidthPlugin) validate(conf []byte) error {
	_, err := parseBandwidth(conf)
	return err
}

// bucket is a tbf for a rate in bit/s and a burst in bits. What waits longer
// than 25 ms is dropped, as upstream's plugin has it.
func bucket(index int, rate, burst uint64) *netlink.Tbf {
	const latency = 0.025 // s
	bytes := float64(rate) / 8
	depth := float64(burst) / 8
	if burst == 0 {
		depth = max(bytes/100, 256<<10)
	}
	depth = min(max(depth, 2000), math.MaxUint32) // never less than a packet
	return &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       uint64(bytes),
		Limit:      uint32(min(bytes*latency+depth, math.MaxUint32)),
		Buffer:     netlink.Xmittime(uint64(bytes), uint32(depth)),
	}
}

func limit(h *netlink.Handle, link netlink.Link, rate, burst uint64) error {
	if rate == 0 {
		return nil
	}
	err := h.QdiscReplace(bucket(link.Attrs().Index, rate, burst))
	if err == unix.ENOENT || err == unix.EOPNOTSUPP {
		return fault.Unsupported("bandwidth limits need the kernel's token bucket filter: modprobe sch_tbf")
	}
	if err != nil {
		return fmt.Errorf("limit %s to %d bit/s: %w", link.Attrs().Name, rate, fault.Opaque(err))
	}
	return nil
}

func (bandwidthPlugin) add(x *call) (*types100.Result, error) {
	if x.prev == nil {
		return nil, fault.Invalid("bandwidth must come after a plugin that makes an interface")
	}
	b, err := parseBandwidth(x.conf)
	if err != nil {
		return nil, err
	}
	if b.IngressRate > 0 {
		h, err := openNetlink()
		if err != nil {
			return nil, err
		}
		defer h.Close()
		link, err := x.outside(h)
		if err != nil {
			return nil, err
		}
		if err := limit(h, link, b.IngressRate, b.IngressBurst); err != nil {
			return nil, err
		}
	}
	step.At("cni.add.limited")
	if b.EgressRate > 0 {
		err := x.inside(func(h *netlink.Handle, link netlink.Link) error { return limit(h, link, b.EgressRate, b.EgressBurst) })
		if err != nil {
			return nil, err
		}
	}
	return x.prev, nil
}

// outside is the host's end of the interface that an earlier plugin made.
func (x *call) outside(h *netlink.Handle) (netlink.Link, error) {
	var name string
	for _, i := range x.prev.Interfaces {
		if i.Sandbox == "" {
			name = i.Name // bridges come first
		}
	}
	if name == "" {
		return nil, fault.Unsupported("network %s has no link on the host to limit what %s receives", x.list.Name, x.key())
	}
	link, err := h.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("look for link %s: %w", name, fault.Opaque(err))
	}
	return link, nil
}

// inside calls f with the interface in the namespace.
func (x *call) inside(f func(*netlink.Handle, netlink.Link) error) error {
	return inside(x.netns, func(h *netlink.Handle) error {
		link, err := h.LinkByName(x.ifname)
		if err != nil {
			return fmt.Errorf("look for %s in the namespace of %s: %w", x.ifname, x.id, fault.Opaque(err))
		}
		return f(h, link)
	})
}

func (bandwidthPlugin) check(x *call) error {
	b, err := parseBandwidth(x.conf)
	if err != nil || x.prev == nil {
		return err
	}
	limited := func(h *netlink.Handle, link netlink.Link, rate uint64) error {
		all, err := dump(func() ([]netlink.Qdisc, error) { return h.QdiscList(link) })
		if err != nil {
			return fault.Opaque(err)
		}
		for _, q := range all {
			if tbf, ok := q.(*netlink.Tbf); ok && tbf.Rate == rate/8 {
				return nil
			}
		}
		return fault.Invalid("link %s of %s has lost its limit of %d bit/s", link.Attrs().Name, x.key(), rate)
	}
	if b.IngressRate > 0 {
		h, err := openNetlink()
		if err != nil {
			return err
		}
		defer h.Close()
		link, err := x.outside(h)
		if err != nil {
			return err
		}
		if err := limited(h, link, b.IngressRate); err != nil {
			return err
		}
	}
	if b.EgressRate == 0 {
		return nil
	}
	return x.inside(func(h *netlink.Handle, link netlink.Link) error { return limited(h, link, b.EgressRate) })
}

// The buckets go with their links.
func (bandwidthPlugin) del(*call) error       { return nil }
func (bandwidthPlugin) gc(*call, []Key) error { return nil }
func (bandwidthPlugin) status(*call) error    { return nil }
