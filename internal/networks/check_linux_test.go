package networks

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/amphora-go/amphora/internal/attachment"
	"github.com/amphora-go/amphora/internal/firewalld"
	"github.com/amphora-go/amphora/internal/firewalld/fakebus"
	"github.com/amphora-go/amphora/internal/host"
	"github.com/amphora-go/amphora/internal/nft"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// finding returns the one of that name; nil if there is none.
func finding(t *testing.T, s *Store, name string) *host.Finding {
	t.Helper()
	for _, f := range s.Check(t.Context()) {
		if f.Problem == "" || f.Cure == "" || f.Needed {
			t.Errorf("a finding without problem or cure, or needed: %+v", f)
		}
		if f.Name == name {
			return &f
		}
	}
	return nil
}

// says fails unless there is a finding of that name with these words in its
// problem and cure.
func says(t *testing.T, s *Store, name string, words ...string) *host.Finding {
	t.Helper()
	f := finding(t, s, name)
	if f == nil {
		t.Errorf("nothing is found about %q, but %+v", name, s.Check(t.Context()))
		return nil
	}
	for _, w := range words {
		if !strings.Contains(f.Problem+"\n"+f.Cure, w) {
			t.Errorf("%q lacks %q: %+v", name, w, *f)
		}
	}
	return f
}

func silent(t *testing.T, s *Store, name string) {
	t.Helper()
	if f := finding(t, s, name); f != nil {
		t.Errorf("unexpected: %+v", *f)
	}
}

func TestCheckFindsNothing(t *testing.T) {
	l := newLab(t)
	for range 2 {
		if found := l.Check(t.Context()); len(found) > 0 {
			t.Errorf("found %+v", found)
		}
		_, err := l.Create(t.Context(), &Spec{Name: "app", IPv6: true})
		if err != nil {
			break // the second time
		}
	}
}

// Somebody's chain that drops is found, and the command that is given helps.
func TestCheckForeignChains(t *testing.T) {
	l := newLab(t)
	conn, err := nftables.New()
	must(t, err)
	policy := nftables.ChainPolicyDrop
	base := func(family nftables.TableFamily, table, chain string) {
		nt := conn.AddTable(&nftables.Table{Name: table, Family: family})
		conn.AddChain(&nftables.Chain{Name: chain, Table: nt, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward,
			Priority: nftables.ChainPriorityFilter, Policy: &policy})
		must(t, conn.Flush())
		t.Cleanup(func() { conn.DelTable(nt); conn.Flush() })
	}
	base(nftables.TableFamilyINet, "mine", "forward")
	f := says(t, l.Store, "firewall", "chain forward of table inet mine", `iifname "amp*" accept`)
	if _, err := exec.LookPath("nft"); err == nil && f != nil {
		must(t, exec.Command("sh", "-c", f.Cure).Run())
		silent(t, l.Store, "firewall")
	}
	conn.DelTable(&nftables.Table{Name: "mine", Family: nftables.TableFamilyINet})
	must(t, conn.Flush())
	// What will be opened by itself is no finding, until it should have been.
	base(nftables.TableFamilyIPv4, "filter", "FORWARD")
	silent(t, l.Store, "firewall")
	_, err = l.Create(t.Context(), &Spec{Name: "app"})
	must(t, err)
	silent(t, l.Store, "firewall")
	conn.FlushChain(&nftables.Chain{Name: "FORWARD", Table: &nftables.Table{Name: "filter", Family: nftables.TableFamilyIPv4}})
	must(t, conn.Flush())
	says(t, l.Store, "firewall", "FORWARD", "reload the networks", "iptables -I FORWARD -i amp+")
	must(t, l.Reload(t.Context()))
	silent(t, l.Store, "firewall")
	// A name of one's own is not among those that are let pass.
	_, err = l.Create(t.Context(), &Spec{Name: "named", Options: map[string]string{"bridge.name": "mine0"}})
	must(t, err)
	says(t, l.Store, "firewall", "-i mine0 -j ACCEPT")
}

// With bridge-nf-call-iptables others' policies drop what stays on one bridge,
// so that internal networks must be let pass as well.
func TestInternalNetworkPasses(t *testing.T) {
	l := newLab(t)
	conn, err := nftables.New()
	must(t, err)
	policy := nftables.ChainPolicyDrop
	table := conn.AddTable(&nftables.Table{Name: "filter", Family: nftables.TableFamilyIPv4})
	conn.AddChain(&nftables.Chain{Name: "FORWARD", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward,
		Priority: nftables.ChainPriorityFilter, Policy: &policy})
	must(t, conn.Flush())
	defer func() { conn.DelTable(table); conn.Flush() }()
	n, err := l.Create(t.Context(), &Spec{Name: "inner", Internal: true})
	must(t, err)
	if chains, err := nft.Foreign(0, n.Bridge); err != nil || len(chains) > 0 {
		t.Errorf("%s is dropped by %+v, %v", n.Bridge, chains, err)
	}
}

func TestCheckLegacy(t *testing.T) {
	l := newLab(t)
	if out, err := exec.Command("iptables-legacy", "-P", "FORWARD", "DROP").CombinedOutput(); err != nil {
		t.Skipf("iptables-legacy: %v %s", err, out)
	}
	defer exec.Command("iptables-legacy", "-P", "FORWARD", "ACCEPT").Run()
	f := says(t, l.Store, "firewall", "legacy", "iptables-legacy -I FORWARD -i amp+")
	if f != nil {
		must(t, exec.Command("sh", "-c", f.Cure).Run())
		silent(t, l.Store, "firewall")
	}
}

func TestCheckForwarding(t *testing.T) {
	l := newLab(t)
	forward := func(value string) { must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte(value), 0)) }
	defer forward("1")
	forward("0")
	silent(t, l.Store, "ip_forward") // the first network turns it on
	_, err := l.Create(t.Context(), &Spec{Name: "app", IPv6: true})
	must(t, err)
	says(t, l.Store, "sysctls", "net.ipv4.ip_forward (it was 0)", "sysctl -w", "net.ipv4.ip_forward=0", "seal")
	forward("0")
	says(t, l.Store, "ip_forward", "turned off", "sysctl -w net.ipv4.ip_forward=1")
	must(t, l.Reload(t.Context()))
	silent(t, l.Store, "ip_forward")

	n, err := l.Get(t.Context(), "app")
	must(t, err)
	force := "/proc/sys/net/ipv6/conf/" + n.Bridge + "/force_forwarding"
	if os.WriteFile(force, []byte("0"), 0) == nil {
		says(t, l.Store, "IPv6 forwarding", n.Bridge)
		must(t, l.Reload(t.Context()))
		silent(t, l.Store, "IPv6 forwarding")
	}
}

// In most containers /proc/sys cannot be written.
func TestCheckReadOnlyForwarding(t *testing.T) {
	l := newLab(t)
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0))
	defer os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for ever: the thread goes with the goroutine
		for _, step := range []func() error{
			func() error { return unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS) },
			func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
			func() error { return unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, "") },
			func() error { return unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "") },
		} {
			if err := step(); err != nil {
				t.Error(err)
				return
			}
		}
		says(t, l.Store, "ip_forward", "read-only", "sysctl -w net.ipv4.ip_forward=1")
	}()
	<-done
}

func TestCheckKernel(t *testing.T) {
	l := newLab(t)
	old := probes
	defer func() { probes = old }()
	probes = append(probes[:1:1], probes[2])
	probes[0].try = func() error { return unix.EOPNOTSUPP }
	says(t, l.Store, "bridges", "modprobe bridge")
	silent(t, l.Store, "nf_tables")
	probes[1].try = func() error { return fmt.Errorf("write the filter: %w", unix.EPROTONOSUPPORT) }
	says(t, l.Store, "nf_tables", "modprobe nf_tables", "published ports")
}

func TestCheckPorts(t *testing.T) {
	l := newLab(t)
	_, err := l.Create(t.Context(), &Spec{Name: "app"})
	must(t, err)
	a := &attachment.Attachment{Network: "app", ID: "blue", Interface: "eth0"}
	publish := func(n int, held bool) {
		a.Ports = nil
		for i := range n {
			a.Ports = append(a.Ports, attachment.Port{Protocol: "tcp", HostPort: uint16(20000 + i), Container: 80, Held: held})
		}
		must(t, attachment.Write(l.root.State, a))
	}
	publish(1000, true)
	silent(t, l.Store, "published ports")
	publish(1001, false)
	says(t, l.Store, "published ports", "blue publishes 1001", "1000 at most")
	publish(3, false)
	says(t, l.Store, "published ports", "no socket reserves 3 of blue")
	must(t, attachment.Remove(l.root.State, a.Network, a.ID, a.Interface))
}

// Bridges go to firewalld's trusted zone, come back to it by Reload, and leave
// it with their networks.
func TestFirewalld(t *testing.T) {
	l := newLab(t)
	bus := fakebus.New(t)
	l.Store = openWith(l.root, bus.Bus)
	silent(t, l.Store, "firewalld")
	n, err := l.Create(t.Context(), &Spec{Name: "app"})
	must(t, err)
	if bus.Zone(n.Bridge) != firewalld.Zone {
		t.Errorf("%s is in zone %q; calls %v", n.Bridge, bus.Zone(n.Bridge), bus.Calls())
	}
	says(t, l.Store, "firewalld", n.Bridge, "in its zone trusted")
	bus.Calls()
	a, err := l.Attach(t.Context(), l.want("app", "blue"))
	must(t, err)
	must(t, l.Detach(t.Context(), a, l.ns))
	if calls := bus.Calls(); len(calls) > 0 {
		t.Errorf("attaching asked firewalld: %v", calls)
	}

	bus.Stop(false) // it was started anew
	says(t, l.Store, "firewalld", n.Bridge+" in no zone", "firewall-cmd --zone=trusted --change-interface="+n.Bridge)
	must(t, l.Reload(t.Context()))
	if bus.Zone(n.Bridge) != firewalld.Zone {
		t.Errorf("after a reload %s is in zone %q", n.Bridge, bus.Zone(n.Bridge))
	}
	bus.Set(n.Bridge, "dmz") // the administrator knows better
	must(t, l.Reload(t.Context()))
	says(t, l.Store, "firewalld", n.Bridge+" in zone dmz")
	bus.Set(n.Bridge, "trusted")

	// Its own chain is not reported besides: it rejects what zones do not allow.
	conn, err := nftables.New()
	must(t, err)
	table := conn.AddTable(&nftables.Table{Name: "firewalld", Family: nftables.TableFamilyINet})
	chain := conn.AddChain(&nftables.Chain{Name: "filter_FORWARD", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityRef(10)})
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{&expr.Reject{Type: 2, Code: 3}}})
	must(t, conn.Flush())
	defer func() { conn.DelTable(table); conn.Flush() }()
	silent(t, l.Store, "firewall")
	bus.Stop(true)
	says(t, l.Store, "firewall", "firewalld", "--add-interface=amp+")
	bus.Stop(false)
	bus.Set(n.Bridge, "trusted")

	must(t, l.Remove(t.Context(), "app"))
	if zone := bus.Zone(n.Bridge); zone != "" {
		t.Errorf("%s is gone, and still in zone %s", n.Bridge, zone)
	}
	// Of a removal that was killed on the way, GC takes it.
	n, err = l.Create(t.Context(), &Spec{Name: "app"})
	must(t, err)
	must(t, os.Remove(l.conflist("app")))
	must(t, l.GC(t.Context()))
	if zone := bus.Zone(n.Bridge); zone != "" {
		t.Errorf("GC left %s in zone %s", n.Bridge, zone)
	}
}

// A message bus that does not answer fails nothing, and Check tells of it.
func TestFirewalldHangs(t *testing.T) {
	l := newLab(t)
	bus := fakebus.New(t)
	bus.Hang()
	bus.Patience = 100 * time.Millisecond
	l.Store = openWith(l.root, bus.Bus)
	_, err := l.Create(t.Context(), &Spec{Name: "app"})
	must(t, err)
	says(t, l.Store, "firewalld", "no answer", bus.Socket)
	l.Store = openWith(l.root, firewalld.Bus{Socket: "/none"})
}

// One stat for each bridge that is made is all that a host without a bus pays.
func BenchmarkNoBus(b *testing.B) {
	bus := firewalld.Bus{Socket: "/none"}
	for b.Loop() {
		if err := bus.Trust(context.Background(), "amp0"); err != nil {
			b.Fatal(err)
		}
	}
}
