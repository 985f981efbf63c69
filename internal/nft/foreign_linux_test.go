package nft_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"

	"github.com/amphora-go/amphora/internal/nft"
	. "github.com/amphora-go/amphora/internal/nft/netlab"
)

// forwardChain makes a base chain of somebody else.
func forwardChain(t *testing.T, n *NS, family nftables.TableFamily, table, chain string, policy nftables.ChainPolicy, rules ...[]expr.Any) {
	t.Helper()
	conn, err := nftables.New(nftables.WithNetNSFd(n.FD()))
	must(t, err)
	nt := conn.AddTable(&nftables.Table{Name: table, Family: family})
	c := conn.AddChain(&nftables.Chain{Name: chain, Table: nt, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &policy})
	for _, r := range rules {
		conn.AddRule(&nftables.Rule{Table: nt, Chain: c, Exprs: r})
	}
	must(t, conn.Flush())
}

func foreign(t *testing.T, n *NS, bridges ...string) []nft.Chain {
	t.Helper()
	chains, err := nft.Foreign(n.FD(), bridges...)
	must(t, err)
	return chains
}

// What Docker leaves when it turned forwarding on.
func TestPassForeign(t *testing.T) {
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
		must(t, tab.PassForeign()) // nothing there
		for _, f := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
			forwardChain(t, h.NS, f, "filter", "FORWARD", nftables.ChainPolicyDrop)
		}
		must(t, tab.AddBridge(bridge(a)))
		must(t, tab.AddBridge(bridge(b)))
		must(t, tab.AddPorts("app/one/eth0", []nft.Port{port("tcp", "", 8080, one.V4, 80), port("tcp", "", 8080, one.V6, 80)}))
		h.Outside.Miss("tcp", Addr(HostV4, 8080))
		one.Miss("tcp", Addr(OutsideV6, 90))
		if got := foreign(t, h.NS); len(got) != 2 || !strings.HasPrefix(got[0].Command+got[1].Command, "ip") {
			t.Errorf("foreign chains %+v, want FORWARD of ip and ip6", got)
		}
		for range 2 {
			must(t, tab.PassForeign())
		}
		if got := foreign(t, h.NS, a.Bridge, b.Bridge); len(got) != 0 {
			t.Errorf("foreign chains %+v after PassForeign, want none", got)
		}
		// Another Root's bridge is not let pass by ours, nor one of another name.
		if got := foreign(t, h.NS, a.Bridge, "amp0123000001", "mine0"); len(got) != 2 || !strings.Contains(got[0].Command, " -i amp+ ") || !strings.Contains(got[0].Command, " -o mine0 ") {
			t.Errorf("foreign chains %+v for other bridges", got)
		}
		if _, err := exec.LookPath("iptables-nft"); err == nil { // it can read what we wrote
			must(t, h.Do(func() error {
				out, err := exec.Command("iptables-nft", "-S", "FORWARD").CombinedOutput()
				for _, want := range []string{"-A FORWARD -i ampabcd+ -j ACCEPT\n", "-A FORWARD -o ampabcd+ -j ACCEPT\n"} {
					if strings.Count(string(out), want) != 1 {
						t.Errorf("iptables shows %q, want once %q", out, want)
					}
				}
				return err
			}))
		}
		for _, family := range [][3]string{{HostV4, OutsideV4, one.V4}, {HostV6, OutsideV6, one.V6}} {
			h.Outside.Reach("tcp", Addr(family[0], 8080), "one")
			one.Reach("udp", Addr(family[1], 90), "outside")
			two.Reach("tcp", Addr(family[2], 80), "one")
			other.Reach("tcp", Addr(family[0], 8080), "one")
			other.Miss("tcp", Addr(family[2], 80)) // our table goes on filtering
		}
		must(t, tab.Drop())
		conn, err := nftables.New(nftables.WithNetNSFd(h.FD()))
		must(t, err)
		for _, f := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
			nt := &nftables.Table{Name: "filter", Family: f}
			rules, err := conn.GetRules(nt, &nftables.Chain{Name: "FORWARD", Table: nt})
			must(t, err)
			if len(rules) != 0 {
				t.Errorf("Drop left %d rules in FORWARD", len(rules))
			}
		}
	})
}

func TestForeign(t *testing.T) {
	t.Parallel()
	n := New(t, "host")
	ruleset(t, n)
	if got := foreign(t, n); len(got) != 0 {
		t.Errorf("foreign chains %+v in an empty namespace", got)
	}
	reject := []expr.Any{&expr.Counter{}, &expr.Reject{Type: 2, Code: 3}} // icmpx, admin-prohibited
	tcp := []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{6}}}
	drop, accept := &expr.Verdict{Kind: expr.VerdictDrop}, &expr.Verdict{Kind: expr.VerdictAccept}
	inet := nftables.TableFamilyINet
	forwardChain(t, n, inet, "firewalld", "filter_FORWARD", nftables.ChainPolicyAccept, append(tcp[:2:2], accept), reject)
	forwardChain(t, n, inet, "mine", "forward", nftables.ChainPolicyDrop)
	forwardChain(t, n, inet, "some", "forward", nftables.ChainPolicyAccept, append(tcp[:2:2], drop)) // with a condition
	forwardChain(t, n, inet, "all", "forward", nftables.ChainPolicyDrop, []expr.Any{accept})
	forwardChain(t, n, nftables.TableFamilyIPv6, "deep", "forward", nftables.ChainPolicyAccept)
	must(t, table(n).Seal()) // ours does not count
	conn, err := nftables.New(nftables.WithNetNSFd(n.FD()))
	must(t, err)
	deep := &nftables.Table{Name: "deep", Family: nftables.TableFamilyIPv6}
	last := conn.AddChain(&nftables.Chain{Name: "last", Table: deep})
	conn.AddRule(&nftables.Rule{Table: deep, Chain: last, Exprs: []expr.Any{drop}})
	conn.AddRule(&nftables.Rule{Table: deep, Chain: &nftables.Chain{Name: "forward", Table: deep},
		Exprs: []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictJump, Chain: "last"}}})
	must(t, conn.Flush())

	want := map[string]string{"firewalld": "firewall-cmd", "mine": "nft '", "deep": "nft '"}
	for _, c := range foreign(t, n) {
		if want[c.Table] == "" || !strings.HasPrefix(c.Command, want[c.Table]) || c.Why == "" {
			t.Errorf("unexpected: %+v", c)
		}
		delete(want, c.Table)
		if _, err := exec.LookPath("nft"); err != nil || c.Table == "firewalld" {
			continue
		}
		must(t, n.Do(func() error { return exec.Command("sh", "-c", c.Command).Run() }))
		for _, again := range foreign(t, n) {
			if again.Table == c.Table {
				t.Errorf("%s did not help", c.Command)
			}
		}
	}
	if len(want) != 0 {
		t.Errorf("not found: %v", want)
	}
	if _, err := exec.LookPath("nft"); err != nil {
		return
	}
	for _, c := range foreign(t, n, "amp1", "mine0") { // "amp" is let pass by now
		if c.Table == "firewalld" {
			continue
		}
		if strings.Contains(c.Command, "amp") || !strings.Contains(c.Command, `"mine0"`) {
			t.Errorf("command %s", c.Command)
		}
		must(t, n.Do(func() error { return exec.Command("sh", "-c", c.Command).Run() }))
	}
	if got := foreign(t, n, "amp1", "mine0"); len(got) != 1 {
		t.Errorf("foreign chains %+v, want firewalld's", got)
	}
}

// The host forwards between two networks of its own by interfaces that are not
// virtual in Seal's sense, as network cards are.
func TestSeal(t *testing.T) {
	t.Parallel()
	h := NewHost(t)
	ruleset(t, h.NS)
	lan, far := New(t, "lan"), New(t, "far")
	card := func(n *NS, parent, subnet string) {
		Join(h.NS, parent, n, "eth0")
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex = "card"+parent, h.Link(parent).Attrs().Index
		must(t, h.Netlink().LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}))
		h.Up(attrs.Name)
		h.Addr(attrs.Name, subnet+"1/24")
		n.Addr("eth0", subnet+"2/24")
		n.Route("default", subnet+"1")
	}
	card(lan, "one", "10.1.1.")
	card(far, "two", "10.1.2.")
	a := h.NewNet("ampabcd000001", "10.210.1.0/24", "fd00:210:1::/64")
	foreign := h.NewNet("docker0", "172.17.0.0/16", "fd00:17::/64")
	one, docker := a.NewContainer("one"), foreign.NewContainer("docker")
	one.Serve("tcp", ":80")
	far.Serve("tcp", ":90")
	h.Outside.Serve("tcp", ":90")
	tab := table(h.NS)
	must(t, tab.AddBridge(bridge(a)))
	must(t, tab.AddPorts("app/one/eth0", []nft.Port{port("tcp", "", 8080, one.V4, 80)}))
	lan.Reach("tcp", "10.1.2.2:90", "far")
	check := func() {
		lan.Miss("tcp", "10.1.2.2:90")
		lan.Reach("tcp", "10.1.1.1:8080", "one")
		one.Reach("tcp", "10.1.2.2:90", "far")
		docker.Reach("tcp", "10.1.2.2:90", "far")
		lan.Reach("tcp", docker.V4+":80", "docker")
	}
	docker.Serve("tcp", ":80")
	for range 2 {
		must(t, tab.Seal())
		check()
	}
	must(t, tab.Reset([]nft.Bridge{bridge(a)}, map[string][]nft.Port{"app/one/eth0": {port("tcp", "", 8080, one.V4, 80)}}))
	check()
	must(t, tab.Drop())
	lan.Reach("tcp", "10.1.2.2:90", "far")
}
