package cni

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/amphora-go/amphora/internal/ipam"
	"github.com/amphora-go/amphora/internal/nft"
)

// ports of the host in this run's namespace.
func hostLinks(t testing.TB, prefix string) []string {
	t.Helper()
	h, err := openNetlink()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	all, err := dump(h.LinkList)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, link := range all {
		if strings.HasPrefix(link.Attrs().Name, prefix) {
			names = append(names, link.Attrs().Name)
		}
	}
	return names
}

// portsOn are the links plugged into a lab's bridge.
func (l *lab) portsOn() []string {
	h, err := openNetlink()
	if err != nil {
		l.t.Fatal(err)
	}
	defer h.Close()
	bridge, err := h.LinkByName(l.bridge())
	if err != nil {
		return nil
	}
	all, err := dump(h.LinkList)
	if err != nil {
		l.t.Fatal(err)
	}
	var names []string
	for _, link := range all {
		if link.Attrs().MasterIndex == bridge.Attrs().Index {
			names = append(names, link.Attrs().Name)
		}
	}
	return names
}

func TestDualStackBridge(t *testing.T) {
	l := newLab(t)
	l.down()
	ctx := t.Context()
	ns := newNS(t)
	if err := Loopback(ns); err != nil {
		t.Fatal(err)
	}
	req := &Request{Conflist: l.conflist(), ID: "c1", NetNS: ns, IfName: "eth0",
		Ports: []Port{{Protocol: "tcp", HostPort: 8080, Container: 80}, {Protocol: "udp", Host: netip.MustParseAddr("127.0.0.1"), HostPort: 53, Container: 5353}}}
	res, err := l.Add(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	a4, a6 := l.subnet4().Addr().Next().Next(), l.subnet6().Addr().Next().Next()
	if want := []netip.Prefix{netip.PrefixFrom(a4, 24), netip.PrefixFrom(a6, 64)}; !slices.Equal(res.Addresses, want) {
		t.Errorf("addresses %v, want %v", res.Addresses, want)
	}
	if want := []netip.Addr{l.subnet4().Addr().Next(), l.subnet6().Addr().Next()}; !slices.Equal(res.Gateways, want) {
		t.Errorf("gateways %v, want %v", res.Gateways, want)
	}
	b := a4.As4()
	if want := (net.HardwareAddr{2, 0x42, b[0], b[1], b[2], b[3]}); res.MAC.String() != want.String() {
		t.Errorf("MAC %s, want %s", res.MAC, want)
	}
	if got := l.portsOn(); len(got) != 1 || got[0] != res.HostLink {
		t.Errorf("ports %v, host link %s", got, res.HostLink)
	}
	for typ, how := range res.Plugins {
		if how != Builtin {
			t.Errorf("%s was run by %s", typ, how)
		}
	}
	want := []nft.Port{
		{Protocol: "tcp", HostPort: 8080, To: netip.AddrPortFrom(a4, 80)}, {Protocol: "tcp", HostPort: 8080, To: netip.AddrPortFrom(a6, 80)},
		{Protocol: "udp", Host: netip.MustParseAddr("127.0.0.1"), HostPort: 53, To: netip.AddrPortFrom(a4, 5353)},
	}
	if got := l.table.owners[l.network()+"/c1/eth0"]; !slices.Equal(got, want) {
		t.Errorf("ports %v, want %v", got, want)
	}
	if b := l.table.bridges[l.bridge()]; !b.Masquerade || b.Open || b.Internal || !slices.Equal(b.Subnets, []netip.Prefix{l.subnet4(), l.subnet6()}) {
		t.Errorf("bridge %+v", b)
	}
	again := &Request{Conflist: req.Conflist, ID: "c1", NetNS: ns, IfName: "eth0"}
	if err := l.Check(ctx, again); err != nil {
		t.Error(err)
	}
	if err := l.Status(ctx, req.Conflist); err != nil {
		t.Error(err)
	}
	if _, err := l.Add(ctx, req); !errors.Is(err, ipam.ErrAttached) {
		t.Errorf("ADD again: %v", err)
	}
	if err := l.Check(ctx, again); err != nil {
		t.Errorf("after a refused ADD: %v", err)
	}
	for range 2 {
		if err := l.Del(ctx, again); err != nil {
			t.Fatal(err)
		}
	}
	if left := append(append(l.portsOn(), l.leaseFiles()...), hostLinks(t, res.HostLink)...); len(left) > 0 || len(l.table.owners) > 0 {
		t.Errorf("left: %v %v", left, l.table.owners)
	}
	if err := l.Check(ctx, again); err == nil {
		t.Error("CHECK after DEL says nothing")
	}
}

// In the namespace: what the interface has.
func TestInsideTheNamespace(t *testing.T) {
	l := newLab(t)
	l.down()
	ns := newNS(t)
	if _, err := l.Add(t.Context(), &Request{Conflist: l.conflistWith(`"mtu":1400,`, ""), ID: "c1", NetNS: ns, IfName: "eth0", Metric: 7}); err != nil {
		t.Fatal(err)
	}
	insideOf(t, ns, func(h *netlink.Handle) error {
		link, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		if link.Attrs().MTU != 1400 || link.Attrs().Flags&net.FlagUp == 0 {
			t.Errorf("eth0: %+v", link.Attrs())
		}
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			routes := defaultRoutes(h, family)
			if len(routes) != 1 || routes[0].Priority != 7 || routes[0].Gw == nil {
				t.Errorf("default routes %v", routes)
			}
		}
		return nil
	})
	if err := l.Del(t.Context(), &Request{Conflist: l.conflist(), ID: "c1", NetNS: ns, IfName: "eth0"}); err != nil {
		t.Fatal(err)
	}
}
