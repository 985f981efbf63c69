package nft_test

import (
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/nft"
	. "github.com/amphora-go/amphora/internal/nft/netlab"
)

// bridge is what the filter is told of a lab's network.
func bridge(n *Net) nft.Bridge {
	return nft.Bridge{Name: n.Bridge, Subnets: []netip.Prefix{n.V4, n.V6}, Masquerade: true}
}

func table(n *NS) *nft.Table {
	t := nft.New("abcd1234")
	t.NetNS = n.FD()
	return t
}

func port(protocol, host string, hostPort uint16, to string, toPort uint16) nft.Port {
	p := nft.Port{Protocol: protocol, HostPort: hostPort, To: netip.AddrPortFrom(netip.MustParseAddr(to), toPort)}
	if host != "" {
		p.Host = netip.MustParseAddr(host)
	}
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ruleset is for people: what nft shows when a test failed, if it is there.
func ruleset(t testing.TB, n *NS) {
	t.Cleanup(func() {
		if t.Failed() || os.Getenv("AMPHORA_NFT_SHOW") != "" {
			_ = n.Do(func() error {
				out, _ := exec.Command("nft", "list", "ruleset").CombinedOutput()
				t.Logf("%s", out)
				return nil
			})
		}
	})
}

func withBridgeNF(t *testing.T, f func(t *testing.T, h *Host)) {
	for name, on := range map[string]bool{"bridge-nf off": false, "bridge-nf on": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := NewHost(t)
			if !h.BridgeNF(on) && on {
				t.Skip("this kernel has no br_netfilter (modprobe br_netfilter)")
			}
			ruleset(t, h.NS)
			f(t, h)
		})
	}
}

func TestPublished(t *testing.T) {
	t.Parallel()
	withBridgeNF(t, func(t *testing.T, h *Host) {
		a := h.NewNet("ampabcd000001", "10.210.1.0/24", "fd00:210:1::/64")
		b := h.NewNet("ampabcd000002", "10.210.2.0/24", "fd00:210:2::/64")
		one, two, other := a.NewContainer("one"), a.NewContainer("two"), b.NewContainer("other")
		for _, network := range []string{"tcp", "udp"} {
			one.Serve(network, ":80")
			h.Outside.Serve(network, ":90")
		}
		tab := table(h.NS)
		must(t, tab.AddBridge(bridge(a)))
		must(t, tab.AddBridge(bridge(b)))
		must(t, tab.AddPorts("app/one/eth0", []nft.Port{
			port("tcp", "", 8080, one.V4, 80), port("tcp", "", 8080, one.V6, 80),
			port("udp", "", 8080, one.V4, 80), port("udp", "", 8080, one.V6, 80),
		}))
		for _, network := range []string{"tcp", "udp"} {
			for _, addr := range []string{HostV4, HostV6} {
				to := Addr(addr, 8080)
				if saw := h.Outside.Reach(network, to, "one"); saw != OutsideV4 && saw != OutsideV6 {
					t.Errorf("from outside, the container sees %s", saw)
				}
				h.Reach(network, to, "one")
				one.Reach(network, to, "one")
				two.Reach(network, to, "one")
				other.Reach(network, to, "one")
			}
			h.Reach(network, "127.0.0.1:8080", "one")
			h.Reach(network, Addr(a.GW4, 8080), "one")
			one.Reach(network, Addr(a.GW4, 8080), "one")
			one.Reach(network, Addr(a.GW6, 8080), "one")
			two.Reach(network, Addr(one.V4, 80), "one")
			two.Reach(network, Addr(one.V6, 80), "one")
			for addr, want := range map[string]string{OutsideV4: HostV4, OutsideV6: HostV6} {
				if saw := two.Reach(network, Addr(addr, 90), "outside"); saw != want {
					t.Errorf("%s: outside sees %s, want the host's address %s", network, saw, want)
				}
			}
			other.Miss(network, Addr(one.V4, 80))
			other.Miss(network, Addr(one.V6, 80))
		}
	})
}

func TestHostAddress(t *testing.T) {
	t.Parallel()
	h := NewHost(t)
	ruleset(t, h.NS)
	a := h.NewNet("ampabcd000001", "10.210.1.0/24", "fd00:210:1::/64")
	one, two := a.NewContainer("one"), a.NewContainer("two")
	h.Addr("up0", "192.0.2.11/24", "2001:db8:99::11/64")
	for _, network := range []string{"tcp", "udp"} {
		one.Serve(network, ":80")
		two.Serve(network, ":80")
	}
	tab := table(h.NS)
	must(t, tab.AddBridge(bridge(a)))
	var first, second []nft.Port
	for _, network := range []string{"tcp", "udp"} {
		first = append(first,
			port(network, HostV4, 8080, one.V4, 80), port(network, HostV6, 8080, one.V6, 80),
			port(network, "127.0.0.1", 8081, one.V4, 80), port(network, HostV4, 8082, one.V4, 80))
		second = append(second, port(network, "", 8082, two.V4, 80))
	}
	must(t, tab.AddPorts("app/one/eth0", first))
	must(t, tab.AddPorts("app/two/eth0", second))
	for _, network := range []string{"tcp", "udp"} {
		h.Outside.Reach(network, Addr(HostV4, 8080), "one")
		h.Outside.Reach(network, Addr(HostV6, 8080), "one")
		h.Reach(network, Addr(HostV4, 8080), "one")
		h.Outside.Miss(network, "192.0.2.11:8080")
		h.Outside.Miss(network, "[2001:db8:99::11]:8080")
		h.Miss(network, "127.0.0.1:8080")
		h.Reach(network, "127.0.0.1:8081", "one")
		h.Outside.Miss(network, Addr(HostV4, 8081))
		// The single address goes first.
		h.Outside.Reach(network, Addr(HostV4, 8082), "one")
		h.Outside.Reach(network, "192.0.2.11:8082", "two")
	}
	must(t, tab.RemovePorts("app/one/eth0", first))
	for _, network := range []string{"tcp", "udp"} {
		h.Outside.Reach(network, Addr(HostV4, 8082), "two")
		h.Outside.Miss(network, Addr(HostV4, 8080))
	}
}

// A client that keeps its source port has an entry in connection tracking from
// before the port was published, and one from each container that had it.
func TestUDPSourcePort(t *testing.T) {
	t.Parallel()
	h := NewHost(t)
	a := h.NewNet("ampabcd000001", "10.210.1.0/24", "fd00:210:1::/64")
	one, two := a.NewContainer("one"), a.NewContainer("two")
	one.Serve("udp", ":53")
	two.Serve("udp", ":53")
	tab := table(h.NS)
	must(t, tab.AddBridge(bridge(a)))
	heard := h.Hear(":8053") // so that the entry stays: nobody refuses
	ask := func(n *NS, from, to string) string {
		server, _, err := n.AskFrom("udp", from, to, 3*time.Second)
		if err != nil {
			return err.Error()
		}
		return server
	}
	flows := []struct {
		n        *NS
		from, to string
	}{
		{h.Outside, Addr(OutsideV4, 5353), Addr(HostV4, 8053)},
		{h.Outside, Addr(OutsideV6, 5353), Addr(HostV6, 8053)},
		{h.NS, "127.0.0.1:5353", "127.0.0.1:8053"},
	}
	for _, f := range flows {
		f.n.Send(f.from, f.to)
		next(heard)
	}
	publish := func(owner string, c *Container) []nft.Port {
		ports := []nft.Port{port("udp", "", 8053, c.V4, 53), port("udp", "", 8053, c.V6, 53)}
		must(t, tab.AddPorts(owner, ports))
		for _, f := range flows {
			if got := ask(f.n, f.from, f.to); got != c.Name {
				t.Errorf("%s asks %s from its old port: %s, want %s", f.n.Name, f.to, got, c.Name)
			}
		}
		return ports
	}
	h.Outside.Serve("udp", ":8053") // the same port of the world
	two.Reach("udp", Addr(OutsideV4, 8053), "outside")
	tracked := func(source string) (n int) {
		list, err := h.Netlink().ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
		must(t, err)
		for _, f := range list {
			if f.Forward.DstPort == 8053 && f.Forward.SrcIP.String() == source {
				n++
			}
		}
		return n
	}
	ports := publish("app/one/eth0", one)
	must(t, tab.AddPorts("app/one/eth0", ports)) // a flow that is right goes on
	if tracked(OutsideV4) != 1 || tracked(two.V4) != 1 {
		t.Errorf("%d and %d flows are left, want 1 and 1", tracked(OutsideV4), tracked(two.V4))
	}
	must(t, tab.RemovePorts("app/one/eth0", ports))
	if tracked(OutsideV4) != 0 || tracked(two.V4) != 1 {
		t.Errorf("after removal %d and %d flows are left, want 0 and 1", tracked(OutsideV4), tracked(two.V4))
	}
	publish("app/two/eth0", two)
}

func TestIsolation(t *testing.T) {
	t.Parallel()
	withBridgeNF(t, func(t *testing.T, h *Host) {
		tab := table(h.NS)
		make := func(n, name string, f func(*nft.Bridge)) (*Container, *Container) {
			net := h.NewNet("ampabcd00000"+n, "10.210."+n+".0/24", "fd00:210:"+n+"::/64")
			br := bridge(net)
			f(&br)
			must(t, tab.AddBridge(br))
			c, d := net.NewContainer(name), net.NewContainer(name+" too")
			for _, network := range []string{"tcp", "udp"} {
				c.Serve(network, ":80")
			}
			d.Reach("tcp", Addr(c.V4, 80), name)
			d.Reach("udp", Addr(c.V6, 80), name)
			must(t, tab.AddPorts("net"+n+"/"+name+"/eth0", []nft.Port{port("tcp", "", 8000+uint16(n[0]-'0'), c.V4, 80)}))
			return c, d
		}
		plain, _ := make("1", "plain", func(*nft.Bridge) {})
		other, _ := make("2", "other", func(*nft.Bridge) {})
		open, _ := make("3", "open", func(b *nft.Bridge) { b.Open = true })
		open2, _ := make("4", "open2", func(b *nft.Bridge) { b.Open = true })
		internal, internal2 := make("5", "internal", func(b *nft.Bridge) { b.Internal, b.Masquerade = true, false })
		h.Outside.Serve("tcp", ":90")
		var misses sync.WaitGroup
		for _, network := range []string{"tcp", "udp"} {
			for _, pair := range [][2]*Container{{plain, other}, {other, plain}, {plain, open}, {open, plain}, {plain, internal}, {open, internal}, {internal, open}, {internal, plain}} {
				misses.Go(func() { pair[0].Miss(network, Addr(pair[1].V4, 80)) })
				misses.Go(func() { pair[0].Miss(network, Addr(pair[1].V6, 80)) })
			}
			// Between open networks no address is translated.
			if saw := open.Reach(network, Addr(open2.V4, 80), "open2"); saw != open.V4 {
				t.Errorf("open2 sees %s, want %s", saw, open.V4)
			}
			if saw := open2.Reach(network, Addr(open.V6, 80), "open"); saw != open2.V6 {
				t.Errorf("open sees %s, want %s", saw, open2.V6)
			}
		}
		misses.Wait()
		plain.Reach("tcp", Addr(OutsideV4, 90), "outside")
		open.Reach("tcp", Addr(OutsideV6, 90), "outside")
		internal.Miss("tcp", Addr(OutsideV4, 90))
		internal.Miss("tcp", Addr(OutsideV6, 90))
		h.Outside.Miss("tcp", Addr(HostV4, 8005))
		h.Reach("tcp", Addr(internal.V4, 80), "internal")
		h.Reach("tcp", "127.0.0.1:8005", "internal")
		internal2.Reach("tcp", Addr(HostV4, 8005), "internal")
		h.Outside.Reach("tcp", Addr(HostV4, 8003), "open")
	})
}

func TestNoMasquerade(t *testing.T) {
	t.Parallel()
	h := NewHost(t)
	a := h.NewNet("ampabcd000001", "10.210.1.0/24", "fd00:210:1::/64")
	one := a.NewContainer("one")
	br := bridge(a)
	br.Masquerade = false
	must(t, table(h.NS).AddBridge(br))
	h.Outside.Serve("tcp", ":90")
	h.Outside.Route(a.V4.String(), HostV4)
	h.Outside.Route(a.V6.String(), HostV6)
	for addr, want := range map[string]string{OutsideV4: one.V4, OutsideV6: one.V6} {
		if saw := one.Reach("tcp", Addr(addr, 90), "outside"); saw != want {
			t.Errorf("outside sees %s, want %s", saw, want)
		}
	}
}

func TestRedirectDNS(t *testing.T) {
	t.Parallel()
	c := New(t, "container")
	c.Serve("udp", "127.0.0.11:40053")
	c.Serve("tcp", "127.0.0.11:40054")
	server := netip.MustParseAddr("127.0.0.11")
	must(t, nft.RedirectDNS(c.FD(), server, 1, 2))
	c.Miss("udp", "127.0.0.11:53")
	must(t, nft.RedirectDNS(c.FD(), server, 40053, 40054))
	c.Reach("udp", "127.0.0.11:53", "container")
	c.Reach("tcp", "127.0.0.11:53", "container")
	c.Serve("tcp", ":53") // its own server has the port
	c.Reach("tcp", "127.0.0.1:53", "container")
}
