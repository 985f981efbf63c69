package nft_test

import (
	"testing"
	"time"

	"github.com/google/nftables"

	"github.com/amphora-go/amphora/internal/nft"
	. "github.com/amphora-go/amphora/internal/nft/netlab"
)

// flushRaw takes away the rules that an attack must fail by, to see that it
// would succeed without.
func flushRaw(t *testing.T, tab *nft.Table) {
	t.Helper()
	conn, err := nftables.New(nftables.WithNetNSFd(tab.NetNS))
	must(t, err)
	nt := &nftables.Table{Name: tab.Name, Family: nftables.TableFamilyINet}
	conn.FlushChain(&nftables.Chain{Name: "raw", Table: nt})
	must(t, conn.Flush())
}

func TestRouteLocalnetAttack(t *testing.T) {
	t.Parallel()
	withBridgeNF(t, func(t *testing.T, h *Host) {
		a := h.NewNet("ampabcd000001", "10.210.1.0/24", "fd00:210:1::/64")
		tab := table(h.NS)
		must(t, tab.AddBridge(bridge(a)))
		h.Serve("tcp", "127.0.0.1:7777")
		evil := a.NewContainer("evil")
		// What CAP_NET_ADMIN in the container allows: 127.0.0.1 is elsewhere.
		evil.Sysctl("net/ipv4/conf/all/route_localnet", "1")
		lo := evil.Link("lo")
		addrs, err := evil.Netlink().AddrList(lo, 2)
		must(t, err)
		for _, addr := range addrs {
			must(t, evil.Netlink().AddrDel(lo, &addr))
		}
		evil.Route("127.0.0.1/32", a.GW4)
		evil.Miss("tcp", "127.0.0.1:7777")
		flushRaw(t, tab)
		evil.Reach("tcp", "127.0.0.1:7777", "host")
	})
}

func TestSpoofedSource(t *testing.T) {
	t.Parallel()
	withBridgeNF(t, func(t *testing.T, h *Host) {
		a := h.NewNet("ampabcd000001", "10.210.1.0/24", "fd00:210:1::/64")
		b := h.NewNet("ampabcd000002", "10.210.2.0/24", "fd00:210:2::/64")
		evil, victim := a.NewContainer("evil"), b.NewContainer("victim")
		tab := table(h.NS)
		must(t, tab.AddBridge(bridge(a)))
		must(t, tab.AddBridge(bridge(b)))
		for i, c := range []struct{ own, spoofed, host, bits string }{
			{evil.V4, victim.V4, HostV4, "/32"}, {evil.V6, victim.V6, HostV6, "/128"},
			{evil.V4, OutsideV4, HostV4, "/32"}, {evil.V6, OutsideV6, HostV6, "/128"},
		} {
			to := Addr(c.host, 4000+i)
			heard := h.Hear(to)
			evil.Addr("lo", c.spoofed+c.bits)
			send := func(from string) { evil.Send(Addr(from, 4001), to) }
			send(c.spoofed)
			send(c.own)
			if got := next(heard); got != c.own {
				t.Errorf("the host heard %s, want only %s", got, c.own)
			}
			flushRaw(t, tab)
			send(c.spoofed)
			if got := next(heard); got != c.spoofed {
				t.Errorf("without the rules the host heard %q, want %s", got, c.spoofed)
			}
			must(t, tab.Reset([]nft.Bridge{bridge(a), bridge(b)}, nil))
		}
	})
}

func next(c <-chan string) string {
	select {
	case s := <-c:
		return s
	case <-time.After(5 * time.Second):
		return ""
	}
}

func TestDirectRouting(t *testing.T) {
	t.Parallel()
	withBridgeNF(t, func(t *testing.T, h *Host) {
		a := h.NewNet("ampabcd000001", "10.210.1.0/24", "fd00:210:1::/64")
		one := a.NewContainer("one")
		tab := table(h.NS)
		for _, network := range []string{"tcp", "udp"} {
			one.Serve(network, ":80")
			one.Serve(network, ":81")
		}
		h.Outside.Route(a.V4.String(), HostV4)
		h.Outside.Route(a.V6.String(), HostV6)
		h.Outside.Reach("tcp", Addr(one.V4, 81), "one") // no filter yet
		must(t, tab.AddBridge(bridge(a)))
		must(t, tab.AddPorts("app/one/eth0", []nft.Port{port("tcp", "", 8080, one.V4, 80), port("tcp", "", 8080, one.V6, 80)}))
		for _, network := range []string{"tcp", "udp"} {
			for _, addr := range []string{one.V4, one.V6} {
				h.Outside.Miss(network, Addr(addr, 81))
				h.Outside.Miss(network, Addr(addr, 80)) // published as 8080 of the host only
				h.Reach(network, Addr(addr, 81), "one")
			}
		}
	})
}
