package cni

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// host runs f with a handle in the run's namespace.
func host(t testing.TB, f func(h *netlink.Handle) error) {
	t.Helper()
	h, err := openNetlink()
	if err == nil {
		err = f(h)
		h.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// uplink makes a link with an address, for as long as the test runs: one end of
// a cable to nowhere.
func uplink(t testing.TB, name, address string, mtu int) netlink.Link {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, mtu
	link := netlink.NewVeth(attrs)
	link.PeerName = name + "p"
	host(t, func(h *netlink.Handle) error {
		if err := h.LinkAdd(link); err != nil {
			return err
		}
		a, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		a.Flags = unix.IFA_F_NODAD
		peer, err := h.LinkByName(link.PeerName)
		if err != nil {
			return err
		}
		return errors.Join(h.AddrAdd(link, a), h.LinkSetUp(peer), h.LinkSetUp(link))
	})
	t.Cleanup(func() { host(t, func(h *netlink.Handle) error { return h.LinkDel(link) }) })
	return link
}

func TestUpAndDown(t *testing.T) {
	l := newLab(t)
	routing(t, "1")
	ctx := context.Background()
	for range 2 {
		if err := l.Up(ctx, l.conflist()); err != nil {
			t.Fatal(err)
		}
	}
	host(t, func(h *netlink.Handle) error {
		link, err := h.LinkByName(l.bridge())
		if err != nil {
			return err
		}
		a := link.Attrs()
		if a.MTU != 1500 || a.HardwareAddr[0] != 0x0e || a.Alias != "amphora "+l.id+" "+l.network() || a.Flags&net.FlagUp == 0 {
			t.Errorf("%+v", a)
		}
		return nil
	})
	s := sysctls("/proc/sys")
	for name, want := range map[string]string{"ipv4/conf/%s/route_localnet": "1", "ipv4/conf/%s/send_redirects": "0", "ipv6/conf/%s/accept_ra": "0"} {
		if got, err := s.get("net/" + fmt.Sprintf(name, l.bridge())); got != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	b, ok, err := l.BridgeOf(l.conflist())
	if err != nil || !ok || b.Name != l.bridge() {
		t.Errorf("%+v %v %v", b, ok, err)
	}
	for range 2 {
		if err := l.Down(ctx, l.conflist()); err != nil {
			t.Fatal(err)
		}
	}
	if links := hostLinks(t, l.bridge()); len(links) > 0 || len(l.table.bridges) > 0 {
		t.Errorf("left: %v %v", links, l.table.bridges)
	}
	if l.table.sealed > 0 {
		t.Error("sealed although the host forwarded before")
	}
	if changed, err := l.ChangedSysctls(); len(changed) > 0 || err != nil {
		t.Errorf("%v, %v", changed, err)
	}
}

// route_localnet must never be on without the filter.
func TestNoLocalnetWithoutFilter(t *testing.T) {
	l := newLab(t)
	l.table.fail = func(string) error { return errors.New("no filter") }
	if err := l.Up(t.Context(), l.conflist()); err == nil {
		t.Fatal("Up without a filter")
	}
	if links := hostLinks(t, l.bridge()); len(links) > 0 {
		t.Errorf("left %v", links)
	}
	internal := []byte(strings.ReplaceAll(string(l.conflist()), `"ingressPolicy":"same-bridge"`, `"internal":true`))
	l.table.fail = nil
	routing(t, "0")
	if err := l.Up(t.Context(), internal); err != nil {
		t.Fatal(err)
	}
	if got, _ := sysctls("/proc/sys").get("net/ipv4/conf/" + l.bridge() + "/route_localnet"); got != "0" {
		t.Errorf("route_localnet of an internal network is %s", got)
	}
	if got, _ := sysctls("/proc/sys").get(forward4); got != "0" {
		t.Error("an internal network turned forwarding on")
	}
	if b := l.table.bridges[l.bridge()]; !b.Internal || b.Open {
		t.Errorf("%+v", b)
	}
	if err := l.Down(t.Context(), internal); err != nil {
		t.Fatal(err)
	}
}

// A network of one family does not touch the other.
func TestOneFamily(t *testing.T) {
	for _, four := range []bool{true, false} {
		l := newLab(t)
		routing(t, "0")
		t.Cleanup(func() { routing(t, "1") })
		subnet := l.subnet6()
		if four {
			subnet = l.subnet4()
		}
		conflist := []byte(fmt.Sprintf(`{"cniVersion":"1.1.0","name":%q,"plugins":[{"type":"bridge","bridge":%q,"isGateway":true,
			"ipam":{"type":"host-local","ranges":[[{"subnet":%q}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}}]}`, l.network(), l.bridge(), subnet))
		ns := newNS(t)
		res := l.mustAdd("c1", ns, "eth0", func(r *Request) { r.Conflist = conflist })
		if len(res.Addresses) != 1 || len(res.MAC) != 6 || res.MAC[0] != 2 || res.MAC[1] != 0x42 {
			t.Errorf("%+v", res)
		}
		talk(t, "", ns, netJoin(res.Addresses[0].Addr(), 80))
		in(t, ns, func() error {
			for name, want := range map[string]string{"accept_ra": "0", "disable_ipv6": map[bool]string{true: "1", false: "0"}[four]} {
				if got, err := sysctls("/proc/sys").get("net/ipv6/conf/eth0/" + name); got != want {
					t.Errorf("%s: %s is %q, %v", subnet, name, got, err)
				}
			}
			return nil
		})
		if got, _ := sysctls("/proc/sys").get(forward4); got == "1" != four {
			t.Errorf("%s: ip_forward is %s", subnet, got)
		}
		if err := errors.Join(l.Check(t.Context(), &Request{Conflist: conflist, ID: "c1", NetNS: ns, IfName: "eth0"}),
			l.GC(t.Context(), conflist, nil), l.Down(t.Context(), conflist)); err != nil {
			t.Error(err)
		}
		l.clean("after GC")
	}
}

func TestSubnetsInUse(t *testing.T) {
	l := newLab(t)
	routing(t, "1")
	link := uplink(t, "up0", "10.200.0.1/24", 1400)
	host(t, func(h *netlink.Handle) error {
		blackhole := &netlink.Route{Dst: &net.IPNet{IP: net.IPv4(10, 201, 0, 0).To4(), Mask: net.CIDRMask(16, 32)}, Type: unix.RTN_BLACKHOLE}
		policy := &netlink.Route{Dst: &net.IPNet{IP: net.IPv4(10, 202, 0, 0).To4(), Mask: net.CIDRMask(24, 32)}, LinkIndex: link.Attrs().Index, Table: 77}
		way := &netlink.Route{Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, Gw: net.IPv4(10, 200, 0, 254), LinkIndex: link.Attrs().Index}
		t.Cleanup(func() { host(t, func(h *netlink.Handle) error { return h.RouteDel(blackhole) }) })
		return errors.Join(h.RouteAdd(blackhole), h.RouteAdd(policy), h.RouteAdd(way))
	})
	with := func(subnet string) []byte {
		return []byte(strings.ReplaceAll(string(l.conflist()), l.subnet4().String(), subnet))
	}
	for subnet, text := range map[string]string{
		"10.200.0.0/16":  "overlaps the route 10.200.0.0/24 dev up0",
		"10.201.7.0/24":  "overlaps the route blackhole 10.201.0.0/16",
		"10.202.0.64/26": "overlaps the route 10.202.0.0/24 dev up0 table 77",
	} {
		err := l.Up(t.Context(), with(subnet))
		if !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", subnet, err)
		}
		_, err = l.add("c1", newNS(t), "eth0", func(r *Request) { r.Conflist = with(subnet) })
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("ADD in %s: %v", subnet, err)
		}
		l.clean("after a refusal")
	}
	if links := hostLinks(t, l.bridge()); len(links) > 0 {
		t.Errorf("left %v", links)
	}
	if err := l.Up(t.Context(), l.conflist()); err != nil {
		t.Fatal(err)
	}
	host(t, func(h *netlink.Handle) error {
		br, err := h.LinkByName(l.bridge())
		if err == nil && br.Attrs().MTU != 1400 {
			t.Errorf("MTU %d, that of the way out is 1400", br.Attrs().MTU)
		}
		return err
	})
	if err := l.Down(t.Context(), l.conflist()); err != nil {
		t.Fatal(err)
	}
}

// trusted is a Firewall that remembers.
type trusted map[string]bool

func (f trusted) Trust(_ context.Context, bridges ...string) error {
	for _, b := range bridges {
		f[b] = true
	}
	return nil
}

func (f trusted) Distrust(_ context.Context, bridges ...string) error {
	for _, b := range bridges {
		delete(f, b)
	}
	return nil
}

// A bridge that is given up after it was made is forgotten by everybody.
func TestGivenUp(t *testing.T) {
	l := newLab(t)
	routing(t, "1")
	fw := trusted{}
	l.CNI.opts.Firewall = fw
	link := uplink(t, "up0", "10.206.0.1/24", 1500)
	l.table.fail = func(what string) error { // a route comes after the first look for one
		if what != "AddBridge" {
			return nil
		}
		n := ipNet(l.subnet4())
		host(t, func(h *netlink.Handle) error {
			return h.RouteAdd(&netlink.Route{Dst: &n, LinkIndex: link.Attrs().Index, Table: 77})
		})
		return nil
	}
	if err := l.Up(t.Context(), l.conflist()); !errors.Is(err, ErrOverlap) {
		t.Errorf("%v", err)
	}
	if links := hostLinks(t, l.bridge()); len(links)+len(fw)+len(l.table.bridges) > 0 {
		t.Errorf("left %v, trusted %v, filter %v", links, fw, l.table.bridges)
	}
}

// A bridge that somebody else made is used, and not removed; a link that is no
// bridge is refused.
func TestForeignBridge(t *testing.T) {
	l := newLab(t)
	routing(t, "1")
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "theirs0"
	br := &netlink.Bridge{LinkAttrs: attrs}
	host(t, func(h *netlink.Handle) error { return h.LinkAdd(br) })
	t.Cleanup(func() { host(t, func(h *netlink.Handle) error { return h.LinkDel(br) }) })
	conflist := []byte(strings.ReplaceAll(string(l.conflist()), l.bridge(), "theirs0"))
	ns := newNS(t)
	res := l.mustAdd("c1", ns, "eth0", func(r *Request) { r.Conflist = conflist })
	if err := errors.Join(l.GC(t.Context(), conflist, nil), l.Down(t.Context(), conflist)); err != nil {
		t.Fatal(err)
	}
	if left := hostLinks(t, res.HostLink); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	if len(hostLinks(t, "theirs0")) != 1 {
		t.Error("Down removed somebody else's bridge")
	}
	uplink(t, "plain0", "10.203.0.1/24", 1500)
	_, err := l.add("c1", ns, "eth0", func(r *Request) {
		r.Conflist = []byte(strings.ReplaceAll(string(l.conflist()), l.bridge(), "plain0"))
	})
	if !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), "plain0 is a veth") {
		t.Error(err)
	}
	l.clean("after a refusal")
}
