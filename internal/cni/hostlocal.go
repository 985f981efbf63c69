package cni

import (
	"net/netip"
	"slices"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/ipam"
	"github.com/amphora-go/amphora/internal/step"
)

// hostLocalPlugin gives addresses from internal/ipam.
type hostLocalPlugin struct{}

// hostLocalConf is the rest of what host-local reads: what libcni and older
// conventions put beside "ipam".
type hostLocalConf struct {
	RuntimeConfig struct {
		IPs []string `json:"ips"`
	} `json:"runtimeConfig"`
}

func (hostLocalPlugin) validate(conf []byte) error {
	h, err := parseHostLocal(conf)
	if err == nil {
		_, err = h.sets()
	}
	return err
}

// subnets are those of all ranges, each once, masked. Bad ranges are left out:
// validate is for them.
func (h *hostLocal) subnets() []netip.Prefix {
	sets, err := h.sets()
	if err != nil {
		return nil
	}
	var all []netip.Prefix
	for _, set := range sets {
		for _, r := range set {
			if !slices.Contains(all, r.Subnet) {
				all = append(all, r.Subnet)
			}
		}
	}
	return all
}

// store is the lease directory that the configuration means.
func (x *call) store() (*ipam.Store, *hostLocal, error) {
	h, err := parseHostLocal(x.conf)
	if err != nil {
		return nil, nil, err
	}
	if h.DataDir != "" && h.DataDir != x.c.opts.LeaseDir {
		return ipam.Open(h.DataDir), h, nil
	}
	return x.c.leases, h, nil
}

func (hostLocalPlugin) add(x *call) (*types100.Result, error) {
	store, h, err := x.store()
	if err != nil {
		return nil, err
	}
	sets, err := h.sets()
	if err != nil {
		return nil, err
	}
	var conf hostLocalConf
	if err := unmarshal(x.conf, &conf); err != nil {
		return nil, err
	}
	want := ipam.Want{Key: x.key(), Prefer: x.req.Prefer}
	for _, text := range conf.RuntimeConfig.IPs {
		bare, _, _ := strings.Cut(text, "/")
		a, err := netip.ParseAddr(bare)
		if err != nil {
			return nil, fault.Invalid("address %q: %w", text, err)
		}
		want.Addresses = append(want.Addresses, a)
	}
	if taken := x.c.opts.Taken; taken != nil {
		want.Taken = func(a netip.Addr) (bool, error) { return taken(x.list.Name, a, x.id) }
	}
	leases, err := store.Allocate(x.ctx, x.list.Name, sets, want)
	if err != nil {
		return nil, err
	}
	step.At("cni.add.addressed")
	result := &types100.Result{CNIVersion: types100.ImplementedSpecVersion, Routes: h.Routes}
	for _, l := range leases {
		result.IPs = append(result.IPs, &types100.IPConfig{Address: ipNet(l.Prefix), Gateway: l.Gateway.AsSlice()})
	}
	return result, nil
}

func (hostLocalPlugin) check(x *call) error {
	store, _, err := x.store()
	if err != nil {
		return err
	}
	held, err := store.Held(x.ctx, x.list.Name, x.key())
	if err != nil {
		return err
	}
	if x.prev == nil {
		if len(held) == 0 {
			return fault.Invalid("%s has no address in network %s", x.key(), x.list.Name)
		}
		return nil
	}
	h, err := parseHostLocal(x.conf)
	if err != nil {
		return err
	}
	for _, ip := range x.prev.IPs {
		a := prefixOf(ip.Address).Addr()
		ours := slices.ContainsFunc(h.subnets(), func(s netip.Prefix) bool { return s.Contains(a) })
		if ours && !slices.Contains(held, a) {
			return fault.Invalid("address %s of %s is not leased to it any more in network %s", a, x.key(), x.list.Name)
		}
	}
	return nil
}

func (hostLocalPlugin) del(x *call) error {
	store, _, err := x.store()
	if err != nil {
		return err
	}
	err = store.Release(x.ctx, x.list.Name, x.key())
	step.At("cni.del.lease")
	return err
}

func (hostLocalPlugin) gc(x *call, valid []Key) error {
	store, _, err := x.store()
	if err != nil {
		return err
	}
	return store.GC(x.ctx, x.list.Name, valid)
}

func (p hostLocalPlugin) status(x *call) error { return p.validate(x.conf) }
