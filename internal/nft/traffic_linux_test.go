package nft_test

import (
	"net/netip"
	"os"
	"os/exec"
	"testing"

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
