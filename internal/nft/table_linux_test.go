package nft_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/nft"
	. "github.com/amphora-go/amphora/internal/nft/netlab"
)

// many are n ports of one owner, both families.
func many(n int) []nft.Port {
	ports := make([]nft.Port, 0, n)
	for i := range n {
		to := "10.210.1.2"
		if i%2 == 1 {
			to = "fd00:210:1::2"
		}
		ports = append(ports, port("tcp", "", uint16(10000+i), to, 80))
	}
	return ports
}

func owners(t *testing.T, tab *nft.Table) map[string][]nft.Port {
	t.Helper()
	o, err := tab.Owners()
	must(t, err)
	return o
}

func TestConflict(t *testing.T) {
	t.Parallel()
	tab := table(New(t, "host"))
	one := []nft.Port{port("tcp", "", 8080, "10.210.1.2", 80), port("udp", "192.0.2.1", 8080, "10.210.1.2", 80)}
	must(t, tab.AddPorts("app/one/eth0", one))
	must(t, tab.AddPorts("app/one/eth0", one)) // the same again
	two := []nft.Port{port("tcp", "", 9090, "10.210.1.3", 80), port("udp", "192.0.2.1", 8080, "10.210.1.3", 80)}
	err := tab.AddPorts("app/two/eth0", two)
	if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "udp 192.0.2.1:8080") || !strings.Contains(err.Error(), "app/one/eth0") {
		t.Errorf("error %v, want one of fs.ErrExist that names the port and its holder", err)
	}
	want := map[string][]nft.Port{"app/one/eth0": one}
	if got := owners(t, tab); !reflect.DeepEqual(got, want) {
		t.Errorf("after a conflict the ports are %v, want %v: all or none", got, want)
	}
	if err := tab.AddPorts("x/y/z", []nft.Port{one[0], port("tcp", "", 8080, "10.210.1.4", 80)}); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("one port twice: %v", err)
	}
	err = tab.Reset(nil, map[string][]nft.Port{"a": one, "b": two})
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("reset with a conflict: %v", err)
	}
}

func TestInvalid(t *testing.T) {
	t.Parallel()
	tab := nft.New("abcd1234")
	tab.NetNS = -1 // nothing may be asked of the kernel
	good := port("tcp", "", 8080, "10.210.1.2", 80)
	for name, change := range map[string]func(*nft.Port){
		"protocol":  func(p *nft.Port) { p.Protocol = "icmp" },
		"host port": func(p *nft.Port) { p.HostPort = 0 },
		"target":    func(p *nft.Port) { p.To = netip.AddrPort{} },
		"families":  func(p *nft.Port) { p.Host = netip.MustParseAddr("2001:db8::1") },
	} {
		p := good
		change(&p)
		if err := tab.AddPorts("a/b/c", []nft.Port{p}); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, owner := range []string{"", strings.Repeat("x", 251)} {
		if err := tab.AddPorts(owner, []nft.Port{good}); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("owner %q: %v", owner, err)
		}
	}
	if err := tab.AddBridge(nft.Bridge{Name: "a-name-of-16-byte"}); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("long name: %v", err)
	}
	if err := nft.RedirectDNS(-1, netip.MustParseAddr("::1"), 1, 1); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("server of IPv6: %v", err)
	}
}

func TestRemovePorts(t *testing.T) {
	t.Parallel()
	tab := table(New(t, "host"))
	must(t, tab.RemovePorts("app/one/eth0", nil)) // no table
	must(t, tab.RemovePorts("app/one/eth0", many(3)))
	longest := strings.Repeat("n", 250)
	ports := many(300) // more than one message of each map
	ports = append(ports, port("sctp", "2001:db8::1", 5, "fd00:210:1::2", 6))
	must(t, tab.AddPorts(longest, ports))
	must(t, tab.AddPorts("app/two/eth0", []nft.Port{port("tcp", "", 80, "10.210.1.3", 80)}))
	if got := len(owners(t, tab)[longest]); got != 301 {
		t.Fatalf("%d ports, want 301", got)
	}
	// One was taken by another since; that one is not touched, the rest goes.
	wrong := append(ports[:10:10], port("tcp", "", 80, "10.210.1.2", 80), port("tcp", "", 1, "10.210.1.2", 80))
	must(t, tab.RemovePorts(longest, wrong))
	if got := owners(t, tab); len(got[longest]) != 291 || len(got["app/two/eth0"]) != 1 {
		t.Errorf("%d and %d ports are left, want 291 and 1", len(got[longest]), len(got["app/two/eth0"]))
	}
	must(t, tab.RemovePorts(longest, nil))
	must(t, tab.RemovePorts(longest, nil))
	must(t, tab.RemovePorts("app/two/eth0", []nft.Port{port("tcp", "0.0.0.0", 80, "::ffff:10.210.1.3", 80)}))
	if got := owners(t, tab); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

func TestBridges(t *testing.T) {
	t.Parallel()
	tab := table(New(t, "host"))
	br := func(name string, subnets ...string) nft.Bridge {
		b := nft.Bridge{Name: name, Masquerade: true}
		for _, s := range subnets {
			b.Subnets = append(b.Subnets, netip.MustParsePrefix(s))
		}
		return b
	}
	must(t, tab.RemoveBridge(br("none", "10.0.0.0/8"))) // no table
	top := br("top", "255.255.255.0/24", "ffff:ffff:ffff:ffff::/64")
	left, right := br("left", "10.1.0.0/24", "fd00::/64"), br("right", "10.1.1.0/24", "fd00:0:0:1::/64")
	for range 2 {
		for _, b := range []nft.Bridge{top, left, right} {
			must(t, tab.AddBridge(b))
		}
	}
	if err := tab.AddBridge(br("other", "10.1.0.128/25")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("overlapping subnet: %v", err)
	}
	for range 2 {
		must(t, tab.RemoveBridge(left))
		must(t, tab.RemoveBridge(top))
	}
	must(t, tab.AddBridge(br("other", "10.1.0.128/25", "fd00::/72")))
	must(t, tab.AddBridge(right))
}

func TestConcurrent(t *testing.T) {
	t.Parallel()
	tab := table(New(t, "host"))
	const n = 24
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() {
			addr := fmt.Sprintf("10.210.1.%d", i+2)
			owner := fmt.Sprintf("app/%d/eth0", i)
			errs[i] = errors.Join(
				tab.AddBridge(nft.Bridge{Name: "ampabcd000001", Subnets: []netip.Prefix{netip.MustParsePrefix("10.210.1.0/24")}}),
				tab.AddPorts(owner, []nft.Port{port("tcp", "", uint16(8000+i), addr, 80), port("udp", "", uint16(8000+i), addr, 80)}))
			if err := tab.AddPorts(owner, []nft.Port{port("tcp", "", 80, addr, 80)}); err != nil {
				if !errors.Is(err, fs.ErrExist) {
					errs[i] = errors.Join(errs[i], err)
				}
			}
		})
	}
	wg.Wait()
	must(t, errors.Join(errs...))
	got, winners := owners(t, tab), 0
	for _, ports := range got {
		winners += len(ports) - 2
	}
	if len(got) != n || winners != 1 {
		t.Fatalf("%d owners, want %d; port 80 has %d holders, want 1", len(got), n, winners)
	}
	for owner := range got {
		wg.Go(func() {
			if err := tab.RemovePorts(owner, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if left := owners(t, tab); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestResetAfterFlush(t *testing.T) {
	t.Parallel()
	h := NewHost(t)
	ruleset(t, h.NS)
	a := h.NewNet("ampabcd000001", "10.210.1.0/24", "fd00:210:1::/64")
	one := a.NewContainer("one")
	one.Serve("tcp", ":80")
	h.Outside.Serve("tcp", ":90")
	tab := table(h.NS)
	web := []nft.Port{port("tcp", "", 8080, one.V4, 80)}
	must(t, tab.AddBridge(bridge(a)))
	must(t, tab.AddPorts("app/one/eth0", web))
	must(t, tab.AddPorts("app/stale/eth0", []nft.Port{port("tcp", "", 9999, one.V4, 80)}))

	conn, err := nftables.New(nftables.WithNetNSFd(h.FD()))
	must(t, err)
	conn.FlushRuleset()
	must(t, conn.Flush())
	h.Outside.Miss("tcp", Addr(HostV4, 8080))
	must(t, tab.AddBridge(bridge(a))) // what the next attachment does
	one.Reach("tcp", Addr(OutsideV4, 90), "outside")
	if o := owners(t, tab); len(o) != 0 {
		t.Errorf("ports after a flush: %v", o)
	}
	flushRaw(t, tab) // tampering that the marker does not show
	ports := map[string][]nft.Port{"app/one/eth0": web, "app/many/eth0": many(20000)}
	must(t, tab.Reset([]nft.Bridge{bridge(a)}, ports))
	h.Outside.Reach("tcp", Addr(HostV4, 8080), "one")
	if o := owners(t, tab); len(o["app/many/eth0"]) != 20000 || len(o) != 2 {
		t.Errorf("%d ports of %d owners, want 20000 of 2", len(o["app/many/eth0"]), len(o))
	}
	must(t, tab.Reset(nil, ports)) // again, now in place of much
	for range 2 {
		must(t, tab.Drop())
		if o := owners(t, tab); len(o) != 0 {
			t.Errorf("after Drop there are %v", o)
		}
	}
}

func TestNoPrivilege(t *testing.T) {
	t.Parallel()
	n := New(t, "host")
	tab := nft.New("abcd1234")
	var errs []error
	must(t, n.Do(func() error { // on a thread that ends
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&hdr, &none[0]); err != nil {
			return err
		}
		_, foreign := nft.Foreign(0)
		errs = []error{
			tab.AddBridge(nft.Bridge{Name: "br"}), tab.RemoveBridge(nft.Bridge{Name: "br"}),
			tab.AddPorts("a/b/c", many(1)), tab.RemovePorts("a/b/c", many(1)), tab.Reset(nil, nil),
			tab.Drop(), tab.Seal(), nft.RedirectDNS(0, netip.MustParseAddr("127.0.0.11"), 1, 1),
			foreign, tab.PassForeign(),
		}
		return nil
	}))
	for i, err := range errs {
		if !errors.Is(err, fs.ErrPermission) || !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(fmt.Sprint(err), "CAP_NET_ADMIN") {
			t.Errorf("call %d without privilege: %v", i, err)
		}
	}
}

func BenchmarkAttach(b *testing.B) {
	for _, present := range []int{0, 8000} {
		n := New(b, "host")
		tab := table(n)
		br := nft.Bridge{Name: "ampabcd000001", Masquerade: true, Subnets: []netip.Prefix{
			netip.MustParsePrefix("10.210.0.0/16"), netip.MustParsePrefix("fd00:210:1::/64")}}
		must(b, tab.AddBridge(br))
		must(b, tab.AddPorts("app/many/eth0", many(present)))
		mine := []nft.Port{port("tcp", "", 80, "10.210.1.3", 80), port("tcp", "", 80, "fd00:210:1::3", 80)}
		b.Run(fmt.Sprintf("add/present=%d", present), func(b *testing.B) {
			for b.Loop() {
				must(b, tab.AddBridge(br))
				must(b, tab.AddPorts("app/mine/eth0", mine))
				b.StopTimer()
				must(b, tab.RemovePorts("app/mine/eth0", mine))
				b.StartTimer()
			}
		})
		b.Run(fmt.Sprintf("remove/present=%d", present), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				must(b, tab.AddPorts("app/mine/eth0", mine))
				b.StartTimer()
				must(b, tab.RemovePorts("app/mine/eth0", mine))
			}
		})
		b.Run(fmt.Sprintf("owners/present=%d", present), func(b *testing.B) {
			for b.Loop() {
				_, err := tab.Owners()
				must(b, err)
			}
		})
	}
}
