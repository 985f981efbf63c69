package cni

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/amphora-go/amphora/internal/ipam"
)

func (l *lab) add(id, ns, ifname string, change func(*Request)) (*Result, error) {
	req := &Request{Conflist: l.conflist(), ID: id, NetNS: ns, IfName: ifname}
	if change != nil {
		change(req)
	}
	return l.Add(l.t.Context(), req)
}

func (l *lab) mustAdd(id, ns, ifname string, change func(*Request)) *Result {
	l.t.Helper()
	res, err := l.add(id, ns, ifname, change)
	if err != nil {
		l.t.Fatal(err)
	}
	return res
}

func (l *lab) mustDel(id, ns, ifname string) {
	l.t.Helper()
	if err := l.Del(l.t.Context(), &Request{Conflist: l.conflist(), ID: id, NetNS: ns, IfName: ifname}); err != nil {
		l.t.Fatal(err)
	}
}

// clean fails the test if anything of the lab's network is left but its bridge.
func (l *lab) clean(when string) {
	l.t.Helper()
	left := append(l.portsOn(), l.leaseFiles()...)
	for _, dir := range []string{"net/cache/" + l.network() + "/results", "net/leases/.index/" + l.network()} {
		entries, _ := os.ReadDir(filepath.Join(l.dir, dir))
		for _, e := range entries {
			left = append(left, e.Name())
		}
	}
	owners, err := l.opts.Table.Owners()
	if err != nil {
		l.t.Error(err)
	}
	for owner := range owners {
		left = append(left, owner)
	}
	if len(left) > 0 {
		l.t.Errorf("%s: left %q", when, left)
	}
}

// insideOf runs f in a namespace with a handle.
func insideOf(t testing.TB, ns string, f func(h *netlink.Handle) error) {
	t.Helper()
	if err := inside(ns, f); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsAskedFor(t *testing.T) {
	l := newLab(t)
	l.down()
	ns := newNS(t)
	nth := func(p netip.Prefix, n byte) netip.Addr {
		b := p.Addr().AsSlice()
		b[len(b)-1] = n
		a, _ := netip.AddrFromSlice(b)
		return a
	}
	mac := net.HardwareAddr{0x02, 1, 2, 3, 4, 5}
	res := l.mustAdd("c1", ns, "eth0", func(r *Request) {
		r.Addresses = []netip.Addr{nth(l.subnet4(), 77), nth(l.subnet6(), 0x77)}
		r.MAC = mac
	})
	if res.Addresses[0].Addr() != nth(l.subnet4(), 77) || res.Addresses[1].Addr() != nth(l.subnet6(), 0x77) || res.MAC.String() != mac.String() {
		t.Errorf("%+v", res)
	}
	insideOf(t, ns, func(h *netlink.Handle) error {
		link, err := h.LinkByName("eth0")
		if err == nil && link.Attrs().HardwareAddr.String() != mac.String() {
			t.Errorf("MAC %s", link.Attrs().HardwareAddr)
		}
		return err
	})
	if got := l.mustAdd("c2", newNS(t), "eth0", func(r *Request) { r.Prefer = []netip.Addr{nth(l.subnet4(), 77), nth(l.subnet4(), 78)} }); got.Addresses[0].Addr() != nth(l.subnet4(), 78) {
		t.Errorf("preferred: %v", got.Addresses)
	}
	l.CNI.opts.Taken = func(network string, a netip.Addr, id string) (bool, error) {
		return network == l.network() && a == nth(l.subnet4(), 99) && id != "stopped", nil
	}
	for _, c := range []struct {
		change func(*Request)
		kind   error
		text   string
	}{
		{func(r *Request) { r.Addresses = []netip.Addr{nth(l.subnet4(), 77)} }, fs.ErrExist, "in use by c1/eth0"},
		{func(r *Request) { r.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.1")} }, fs.ErrInvalid, "outside of network " + l.network()},
		{func(r *Request) { r.Addresses = []netip.Addr{nth(l.subnet4(), 1)} }, fs.ErrInvalid, "gateway"},
		{func(r *Request) { r.Addresses = []netip.Addr{nth(l.subnet4(), 99)} }, fs.ErrExist, "promised"},
		{func(r *Request) { r.MAC = net.HardwareAddr{1, 2, 3, 4, 5, 6} }, fs.ErrInvalid, "multicast"},
		{func(r *Request) { r.Ports = []Port{{Protocol: "icmp", HostPort: 1, Container: 1}} }, fs.ErrInvalid, "icmp"},
		{func(r *Request) { r.Ports = []Port{{Protocol: "tcp", Container: 1}} }, fs.ErrInvalid, "ports are"},
		{func(r *Request) { r.ID = "../x" }, fs.ErrInvalid, "container id"},
		{func(r *Request) { r.IfName = "a/b" }, fs.ErrInvalid, "interface"},
		{func(r *Request) { r.IfName = "a-name-that-is-too-long" }, fs.ErrInvalid, "interface"},
		{func(r *Request) { r.NetNS = "" }, fs.ErrInvalid, "namespace"},
		{func(r *Request) { r.NetNS = "/proc/self/ns/mnt" }, fs.ErrInvalid, "not a network namespace"},
		{func(r *Request) { r.NetNS = "/nowhere" }, fs.ErrInvalid, "/nowhere"},
		{func(r *Request) { r.NetNS = ns }, fs.ErrInvalid, "has an interface eth0 already"},
		{func(r *Request) { r.Conflist = []byte(`{`) }, fs.ErrInvalid, "conflist"},
		{func(r *Request) {
			r.Conflist = []byte(`{"cniVersion":"9.0.0","name":"x","plugins":[{"type":"bridge"}]}`)
		}, fs.ErrInvalid, "9.0.0"},
	} {
		_, err := l.add("c3", newNS(t), "eth0", c.change)
		if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("want %q: %v", c.text, err)
		}
	}
	if got := l.mustAdd("stopped", newNS(t), "eth0", func(r *Request) { r.Addresses = []netip.Addr{nth(l.subnet4(), 99)} }); len(got.Addresses) != 2 {
		t.Errorf("%v", got.Addresses)
	}
	if files := l.leaseFiles(); len(files) != 6 {
		t.Errorf("leases: %q", files)
	}
	for _, id := range []string{"c1", "c2", "stopped"} {
		if err := l.Del(t.Context(), &Request{Conflist: l.conflist(), ID: id, IfName: "eth0"}); err != nil {
			t.Error(err)
		}
	}
	// Lazy: the links live as long as their namespaces.
	if got := l.portsOn(); len(got) != 3 {
		t.Errorf("DEL without a namespace removed links: %v", got)
	}
	if files := l.leaseFiles(); len(files) != 0 {
		t.Errorf("leases: %q", files)
	}
	if err := l.GC(t.Context(), l.conflist(), nil); err != nil {
		t.Fatal(err)
	}
	l.clean("after GC")
}

func TestCapabilitiesAreRequired(t *testing.T) {
	l := newLab(t)
	bare := []byte(fmt.Sprintf(`{"cniVersion":"1.0.0","name":"bare","plugins":[{"type":"bridge","bridge":%q,"ipam":{"type":"host-local","subnet":"10.78.0.0/24"}}]}`, l.bridge()))
	for text, change := range map[string]func(*Request){
		`"ips"`:          func(r *Request) { r.Addresses = []netip.Addr{netip.MustParseAddr("10.78.0.9")} },
		`"mac"`:          func(r *Request) { r.MAC = net.HardwareAddr{2, 2, 3, 4, 5, 6} },
		`"portMappings"`: func(r *Request) { r.Ports = []Port{{Protocol: "tcp", HostPort: 1, Container: 1}} },
		`"bandwidth"`:    func(r *Request) { r.Bandwidth = &Bandwidth{EgressRate: 1e6} },
	} {
		_, err := l.add("c1", "/proc/self/ns/net", "eth0", func(r *Request) { change(r); r.Conflist = bare })
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestExhausted(t *testing.T) {
	l := newLab(t)
	l.down()
	small := []byte(strings.ReplaceAll(string(l.conflist()), ".0/24", ".0/30"))
	l.mustAdd("c1", newNS(t), "eth0", func(r *Request) { r.Conflist = small })
	_, err := l.add("c2", newNS(t), "eth0", func(r *Request) { r.Conflist = small })
	if !errors.Is(err, ipam.ErrExhausted) || !strings.Contains(err.Error(), "no free address") {
		t.Error(err)
	}
	if got := l.portsOn(); len(got) != 1 {
		t.Errorf("%v", got)
	}
	if err := l.GC(t.Context(), small, nil); err != nil {
		t.Fatal(err)
	}
	l.clean("after GC")
}

// Two networks in one namespace: the default route of one takes over when the
// other goes.
func TestTwoNetworks(t *testing.T) {
	a, b := newLab(t), newLab(t)
	a.down()
	b.down()
	ns := newNS(t)
	gateway := func() string {
		var best *netlink.Route
		insideOf(t, ns, func(h *netlink.Handle) error {
			for _, r := range defaultRoutes(h, netlink.FAMILY_V4) {
				if best == nil || r.Priority < best.Priority {
					best = &r
				}
			}
			return nil
		})
		if best == nil {
			return ""
		}
		return best.Gw.String()
	}
	metric := func(n int) func(*Request) { return func(r *Request) { r.Metric = n } }
	ra := a.mustAdd("c1", ns, "eth0", metric(1))
	rb := b.mustAdd("c1", ns, "eth1", metric(2))
	if got := gateway(); got != ra.Gateways[0].String() {
		t.Errorf("gateway %s, want %s", got, ra.Gateways[0])
	}
	for _, l := range []*lab{a, b} {
		ifname := map[*lab]string{a: "eth0", b: "eth1"}[l]
		if err := l.Check(t.Context(), &Request{Conflist: l.conflist(), ID: "c1", NetNS: ns, IfName: ifname}); err != nil {
			t.Error(err)
		}
	}
	a.mustDel("c1", ns, "eth0")
	if got := gateway(); got != rb.Gateways[0].String() {
		t.Errorf("gateway %s, want %s", got, rb.Gateways[0])
	}
	if _, err := a.add("c1", ns, "eth0", metric(2)); err == nil || !strings.Contains(err.Error(), "metric 2") {
		t.Errorf("the same metric: %v", err)
	}
	a.clean("after a refused metric")
	b.mustDel("c1", ns, "eth1")
	b.clean("after DEL")
}

func TestCheckSeesWhatIsMissing(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(l *lab, ns string, res *Result)
		text  string
	}{
		"address": {func(l *lab, ns string, res *Result) {
			insideOf(l.t, ns, func(h *netlink.Handle) error {
				link, _ := h.LinkByName("eth0")
				n := ipNet(res.Addresses[1])
				return h.AddrDel(link, &netlink.Addr{IPNet: &n})
			})
		}, "lost its address fd77"},
		"route": {func(l *lab, ns string, _ *Result) {
			insideOf(l.t, ns, func(h *netlink.Handle) error { r := defaultRoutes(h, netlink.FAMILY_V4); return h.RouteDel(&r[0]) })
		}, "route to 0.0.0.0/0"},
		"down": {func(l *lab, ns string, _ *Result) {
			insideOf(l.t, ns, func(h *netlink.Handle) error { link, _ := h.LinkByName("eth0"); return h.LinkSetDown(link) })
		}, "is down"},
		"renamed": {func(l *lab, ns string, _ *Result) {
			insideOf(l.t, ns, func(h *netlink.Handle) error {
				link, _ := h.LinkByName("eth0")
				h.LinkSetDown(link)
				return h.LinkSetName(link, "other0")
			})
		}, "no interface eth0"},
		"lease": {func(l *lab, _ string, res *Result) {
			os.Remove(filepath.Join(l.dir, "net/leases", l.network(), res.Addresses[0].Addr().String()))
		}, "not leased"},
		"port":  {func(l *lab, _ string, _ *Result) { clear(l.table.owners) }, "port 8080/tcp"},
		"cable": {func(l *lab, _ string, res *Result) { removeLink(l.t, res.HostLink) }, "cable"},
		"bridge address": {func(l *lab, _ string, res *Result) {
			h, _ := openNetlink()
			defer h.Close()
			link, _ := h.LinkByName(l.bridge())
			n := ipNet(netip.PrefixFrom(res.Gateways[0], 24))
			if err := h.AddrDel(link, &netlink.Addr{IPNet: &n}); err != nil {
				l.t.Error(err)
			}
		}, "lost its address 10.77"},
		"bridge": {func(l *lab, _ string, _ *Result) { removeLink(l.t, l.bridge()) }, "gone or down"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.down()
			ns := newNS(t)
			res := l.mustAdd("c1", ns, "eth0", func(r *Request) { r.Ports = []Port{{Protocol: "tcp", HostPort: 8080, Container: 80}} })
			c.spoil(l, ns, res)
			err := l.Check(t.Context(), &Request{Conflist: l.conflist(), ID: "c1", NetNS: ns, IfName: "eth0"})
			if err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("want %q: %v", c.text, err)
			}
			if strings.HasPrefix(name, "bridge") {
				if err := l.Up(t.Context(), l.conflist()); err != nil {
					t.Error(err)
				}
				h, _ := openNetlink()
				defer h.Close()
				n, _ := l.CNI.network(l.conflist())
				if _, err := checkBridge(h, n); err != nil {
					t.Errorf("Up does not mend it: %v", err)
				}
			}
			l.mustDel("c1", ns, "eth0")
			l.clean("after DEL")
		})
	}
}

func removeLink(t testing.TB, name string) {
	t.Helper()
	h, err := openNetlink()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	link, err := h.LinkByName(name)
	if err == nil {
		err = h.LinkDel(link)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestBandwidth(t *testing.T) {
	l := newLab(t)
	l.down()
	ns := newNS(t)
	res := l.mustAdd("c1", ns, "eth0", func(r *Request) {
		r.Bandwidth = &Bandwidth{IngressRate: 80_000_000, IngressBurst: 8_000_000, EgressRate: 16_000_000}
	})
	tbf := func(h *netlink.Handle, name string) *netlink.Tbf { // no Fatal: it is called inside, too
		link, err := h.LinkByName(name)
		if err != nil {
			t.Error(err)
			return new(netlink.Tbf)
		}
		all, err := h.QdiscList(link)
		i := slices.IndexFunc(all, func(q netlink.Qdisc) bool { return q.Type() == "tbf" })
		if err != nil || i < 0 {
			t.Errorf("%s: %v, %v", name, all, err)
			return new(netlink.Tbf)
		}
		return all[i].(*netlink.Tbf)
	}
	h, err := openNetlink()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if q := tbf(h, res.HostLink); q.Rate != 10_000_000 || netlink.Xmitsize(q.Rate, q.Buffer) != 1_000_000 || q.Limit != 1_250_000 {
		t.Errorf("ingress: %+v, burst %d", q, netlink.Xmitsize(q.Rate, q.Buffer))
	}
	insideOf(t, ns, func(h *netlink.Handle) error {
		if q := tbf(h, "eth0"); q.Rate != 2_000_000 {
			t.Errorf("egress: %+v", q)
		}
		return nil
	})
	check := &Request{Conflist: l.conflist(), ID: "c1", NetNS: ns, IfName: "eth0"}
	if err := l.Check(t.Context(), check); err != nil {
		t.Error(err)
	}
	link, _ := h.LinkByName(res.HostLink)
	if err := h.QdiscDel(tbf(h, res.HostLink)); err != nil {
		t.Fatal(err)
	}
	if err := l.Check(t.Context(), check); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("%s without its limit: %v", link.Attrs().Name, err)
	}
	if _, err := l.add("c2", newNS(t), "eth0", func(r *Request) { r.Bandwidth = &Bandwidth{EgressRate: 1} }); !errors.Is(err, fs.ErrInvalid) {
		t.Error(err)
	}
	l.mustDel("c1", ns, "eth0")
	l.clean("after DEL")
}
