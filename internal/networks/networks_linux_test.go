package networks

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
	"sync"
	"testing"

	"github.com/amphora-go/amphora/internal/attachment"
	"github.com/amphora-go/amphora/internal/cni"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/testenv"
	"github.com/vishvananda/netlink"
)

func TestLifeOfANetwork(t *testing.T) {
	l := newLab(t)
	ctx := t.Context()
	n, err := l.Create(ctx, &Spec{Name: "app", IPv6: true, Labels: map[string]string{"tier": "one"}})
	must(t, err)
	if len(n.Subnets) != 2 || n.Subnets[0].Prefix.Bits() != 24 || !n.Subnets[1].Prefix.Addr().Is6() || !n.Auto || !strings.HasPrefix(n.Bridge, l.table.Prefix) {
		t.Errorf("%+v", n)
	}
	for _, ref := range []string{"app", n.ID, n.ID[:8]} {
		if got, err := l.Get(ctx, ref); err != nil || got.ID != n.ID || got.Labels["tier"] != "one" {
			t.Errorf("%s: %+v, %v", ref, got, err)
		}
	}
	if _, err := l.Create(ctx, &Spec{Name: "app"}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("again: %v", err)
	}
	a, err := l.Attach(ctx, l.want("app", "one"))
	must(t, err)
	if len(a.Addresses) != 2 || a.MAC == "" || a.Seq == 0 || a.Names[0] != "one" {
		t.Errorf("%+v", a)
	}
	if err := l.Remove(ctx, "app"); !errors.Is(err, fault.ErrInUse) || !strings.Contains(err.Error(), "one is attached") {
		t.Errorf("removed in use: %v", err)
	}
	must(t, l.GC(ctx)) // takes nothing from the living
	must(t, l.cni().Check(ctx, mustRequest(t, l, n, a)))
	must(t, l.Detach(ctx, a, l.ns))
	l.nothing(t, "detached", 1)
	must(t, l.Remove(ctx, "app"))
	l.nothing(t, "removed", 0)
	if _, err := l.Get(ctx, "app"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after removal: %v", err)
	}
	if got, want := l.events(t), []string{"app create", "app connect", "app disconnect", "app destroy"}; !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}

func mustRequest(t *testing.T, l *lab, n *Network, a *attachment.Attachment) *cni.Request {
	t.Helper()
	r, err := request(n, l.want(n.Name, a.ID))
	must(t, err)
	r.Plugins = a.Plugins
	return r
}

func TestBadSpecs(t *testing.T) {
	l := newLab(t)
	sub := func(p string) []Subnet { return []Subnet{{Prefix: netip.MustParsePrefix(p)}} }
	must2 := func(_ *Network, err error) { t.Helper(); must(t, err) }
	must2(l.Create(t.Context(), &Spec{Name: "taken", Subnets: sub("10.212.0.0/16")}))
	for says, spec := range map[string]Spec{
		"invalid name":        {Name: "a b"},
		"default network":     {Name: "bridge"},
		"host's own":          {Name: "host"},
		"below its mask":      {Name: "xx", Subnets: sub("10.1.2.3/24")},
		"too small":           {Name: "xx", Subnets: sub("10.1.2.0/31")},
		"not for networks":    {Name: "xx", Subnets: sub("127.0.0.0/8")},
		"one family":          {Name: "xx", Subnets: append(sub("10.1.0.0/24"), sub("10.2.0.0/24")...)},
		"of network taken":    {Name: "xx", Subnets: sub("10.212.3.0/24")},
		"cannot be used":      {Name: "xx", Subnets: []Subnet{{Prefix: netip.MustParsePrefix("10.1.2.0/24"), Gateway: netip.MustParseAddr("10.1.3.1")}}},
		"does not lie in":     {Name: "xx", Subnets: []Subnet{{Prefix: netip.MustParsePrefix("10.1.2.0/24"), Range: netip.MustParsePrefix("10.1.3.0/25")}}},
		"MTU 12":              {Name: "xx", MTU: 12},
		"no option \"foo\"":   {Name: "xx", Options: map[string]string{"foo": "bar"}},
		"mtu \"many\"":        {Name: "xx", Options: map[string]string{"mtu": "many"}},
		"needs the subnet":    {Name: "xx", Driver: "macvlan"},
		"neither internal":    {Name: "xx", Driver: "macvlan", Internal: true},
		"is no JSON":          {Name: "xx", Conflist: []byte("{")},
		"no plugins":          {Name: "xx", Conflist: []byte("{}")},
		"give one name":       {Name: "xx", Conflist: []byte(`{"name":"yy","plugins":[{"type":"bridge"}]}`)},
		"everything but name": {Name: "xx", MTU: 1400, Conflist: []byte(`{"plugins":[{"type":"bridge"}]}`)},
	} {
		_, err := l.Create(t.Context(), &spec)
		if !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v, want %q", spec, err, says)
		}
	}
	_, err := l.Create(t.Context(), &Spec{Name: "xx", Driver: "nosuchplugin"})
	if err == nil || !strings.Contains(err.Error(), "nosuchplugin") {
		t.Errorf("unknown driver: %v", err)
	}
	if got := l.bridges(t); len(got) != 1 {
		t.Errorf("bridges %v", got)
	}
}

func TestSubnetsStepRoundWhatIsThere(t *testing.T) {
	l := newLab(t)
	ctx := t.Context()
	_, err := l.root.Configure(ctx, func(s *record.Settings) error {
		s.Pools = []record.Pool{{Base: netip.MustParsePrefix("10.214.0.0/22"), Size: 24}}
		return nil
	})
	must(t, err)
	dst := &net.IPNet{IP: net.IPv4(10, 214, 0, 0), Mask: net.CIDRMask(25, 32)}
	hole := &netlink.Route{Dst: dst, Type: 6 /* RTN_BLACKHOLE */, Table: 77}
	must(t, netlink.RouteAdd(hole))
	defer netlink.RouteDel(hole)
	for _, want := range []string{"10.214.1.0/24", "10.214.2.0/24", "10.214.3.0/24"} {
		n, err := l.Create(ctx, &Spec{Name: "n" + want[7:8]})
		if err != nil || n.Subnets[0].Prefix.String() != want {
			t.Errorf("%+v, %v, want %s", n, err, want)
		}
	}
	_, err = l.Create(ctx, &Spec{Name: "full"})
	if !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), "10.214.0.0/22") {
		t.Errorf("full: %v", err)
	}
	_, err = l.Create(ctx, &Spec{Name: "hidden", Subnets: []Subnet{{Prefix: netip.MustParsePrefix("10.214.0.0/26")}}})
	if err == nil || !strings.Contains(err.Error(), "10.214.0.0/25") {
		t.Errorf("a subnet that hides a route: %v", err)
	}
}

func TestCrowdMakesNetworks(t *testing.T) {
	l := newLab(t)
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			if r := testenv.RunChild(t, "crowd", step.Plan{}, l.dir, fmt.Sprint(i)); r.Code != 0 {
				t.Errorf("%s", r.Stderr)
			}
		})
	}
	wg.Wait()
	all, err := l.List(t.Context())
	must(t, err)
	got := prefixes(all)
	if len(got) != 40 || len(slices.Compact(slices.Clone(got))) != 40 {
		t.Errorf("%d subnets: %v", len(got), got)
	}
}

// TestCrowdAttaches has 50 namespaces attached at once.
func TestCrowdAttaches(t *testing.T) {
	l := newLab(t)
	_, err := l.Create(t.Context(), &Spec{Name: "app"})
	must(t, err)
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[netip.Prefix]string{}
	for i := range 50 {
		w := l.want("app", fmt.Sprintf("box%d", i))
		w.Ports, w.Interface, w.Metric = nil, fmt.Sprintf("eth%d", i), i+1
		wg.Go(func() {
			s, err := open(l.dir)
			if err != nil {
				t.Error(err)
				return
			}
			a, err := s.Attach(t.Context(), w)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if seen[a.Addresses[0]] != "" {
				t.Errorf("%s twice", a.Addresses[0])
			}
			seen[a.Addresses[0]] = a.ID
		})
	}
	wg.Wait()
	all, err := attachment.List(l.root.State, "app")
	must(t, err)
	for _, a := range all {
		wg.Go(func() {
			if err := l.Detach(t.Context(), a, l.ns); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	l.nothing(t, "all gone", 1)
}

func TestConflistsOfOthers(t *testing.T) {
	l := newLab(t)
	dir := filepath.Join(l.dir, "net.d")
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "10-podman.conflist"), []byte(`{"cniVersion":"1.0.0","name":"pod","plugins":[
		{"type":"bridge","bridge":"amptestpod","isGateway":true,"ipMasq":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.215.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}}]}`), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "broken.conflist"), []byte(`{`), 0o644))
	_, err := l.root.Configure(t.Context(), func(s *record.Settings) error { s.Conflists = []string{dir}; return nil })
	must(t, err)
	s, err := open(l.dir)
	must(t, err)
	n, err := s.Get(t.Context(), "pod")
	if err != nil || !n.Foreign || n.Driver != "bridge" || len(n.Subnets) != 1 {
		t.Fatalf("%+v, %v", n, err)
	}
	w := l.want("pod", "one")
	w.Ports = nil
	a, err := s.Attach(t.Context(), w)
	must(t, err)
	if !a.Addresses[0].Masked().Overlaps(netip.MustParsePrefix("10.215.0.0/24")) {
		t.Errorf("address %v", a.Addresses)
	}
	must(t, s.Detach(t.Context(), a, l.ns))
	if err := s.Remove(t.Context(), "pod"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("removed another tool's network: %v", err)
	}
	must(t, s.cni().Down(t.Context(), n.Conflist))
	if link, err := netlink.LinkByName("amptestpod"); err == nil {
		netlink.LinkDel(link)
	}
}

func TestDamage(t *testing.T) {
	l := newLab(t)
	ctx := t.Context()
	_, err := l.Create(ctx, &Spec{Name: "app"})
	must(t, err)
	good, err := os.ReadFile(l.conflist("app"))
	must(t, err)
	for what, content := range map[string]string{"damaged": "{", "version 9": strings.Replace(string(good), `"version": 1`, `"version": 9`, 1)} {
		must(t, os.WriteFile(l.conflist("app"), []byte(content), 0o600))
		if _, err := l.Get(ctx, "app"); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
		all, err := l.List(ctx)
		if err != nil || len(all) != 1 || all[0].Problem == "" {
			t.Errorf("%s: list %+v, %v", what, all, err)
		}
		if err := l.GC(ctx); err == nil {
			t.Errorf("%s: collected without knowing what belongs to whom", what)
		}
	}
	must(t, os.WriteFile(l.conflist("app"), good, 0o600))
}

func TestReloadAndIdle(t *testing.T) {
	l := newLab(t)
	ctx := t.Context()
	_, err := l.Create(ctx, &Spec{Name: "app"})
	must(t, err)
	a, err := l.Attach(ctx, l.want("app", "one"))
	must(t, err)
	must(t, l.table.Drop()) // as "nft flush ruleset" does
	must(t, l.Reload(ctx))
	owners, err := l.table.Owners()
	if err != nil || len(owners) != 1 || len(owners[owner(a)]) != 1 {
		t.Errorf("after a reload: %v, %v", owners, err)
	}
	use, err := l.Use(ctx)
	must(t, err)
	must(t, l.Detach(ctx, a, l.ns))
	must(t, l.Idle(ctx))
	l.nothing(t, "while an engine is open", 1)
	must(t, use.Release())
	if b, err := l.Attach(ctx, l.want("app", "two")); err != nil {
		t.Error(err)
	} else {
		must(t, l.Idle(ctx))
		if len(l.bridges(t)) != 1 {
			t.Error("idle with somebody attached")
		}
		must(t, l.Detach(ctx, b, l.ns))
	}
	must(t, l.Idle(ctx))
	l.nothing(t, "idle", 0)
	b, err := l.Attach(ctx, l.want("app", "three"))
	must(t, err)
	must(t, l.Detach(ctx, b, l.ns))
}

func TestServe(t *testing.T) {
	l := newLab(t)
	_, err := l.Create(t.Context(), &Spec{Name: "app"})
	must(t, err)
	v, err := l.Serve(t.Context(), "app", "API.")
	must(t, err)
	all, err := attachment.List(l.root.State, "app")
	if err != nil || len(all) != 1 || all[0].Names[0] != "api" || all[0].Addresses[0].Addr() != v.Gateways[0] {
		t.Errorf("%+v, %v", all, err)
	}
	must(t, l.GC(t.Context()))
	if held, err := flock.Held(all[0].LockFile); err != nil || !held {
		t.Errorf("collected while served: %v", err)
	}
	must(t, v.Close())
	must(t, v.Close())
	l.nothing(t, "closed", 1)
	// One who ends without a word leaves the name until somebody looks.
	if r := testenv.RunChild(t, "do", step.Plan{}, l.dir, "serve", l.ns); r.Code != 0 {
		t.Fatal(r.Stderr)
	}
	must(t, l.GC(t.Context()))
	l.nothing(t, "collected", 1)
	if left, err := os.ReadDir(filepath.Join(l.root.State, "net", "serving")); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
	for _, e := range l.events(t) {
		if strings.Contains(e, "connect") {
			t.Errorf("event %s of a name", e)
		}
	}
}

// TestMovesOutOfTheWay has two Roots whose networks are idle in turns.
func TestMovesOutOfTheWay(t *testing.T) {
	one, two := newLab(t), newLab(t)
	ctx := t.Context()
	n, err := one.Create(ctx, &Spec{Name: "app", IPv6: true})
	must(t, err)
	use, err := one.Use(ctx)
	must(t, err)
	must(t, use.Release())
	must(t, one.Idle(ctx))
	one.nothing(t, "idle", 0)
	taken, err := two.Create(ctx, &Spec{Name: "app", Subnets: n.Subnets[:1]})
	must(t, err)
	a, err := one.Attach(ctx, one.want("app", "box"))
	must(t, err)
	moved, err := one.Get(ctx, "app")
	must(t, err)
	if moved.Subnets[0].Prefix == taken.Subnets[0].Prefix || !moved.Subnets[0].Prefix.Contains(a.Addresses[0].Addr()) || len(moved.Subnets) != 2 || moved.ID != n.ID {
		t.Errorf("%+v, address %v", moved, a.Addresses)
	}
	must(t, one.Detach(ctx, a, one.ns))
	// What was given stays: then it is an error that says why.
	must(t, two.Idle(ctx))
	use, err = two.Use(ctx)
	must(t, err)
	must(t, use.Release())
	must(t, two.Idle(ctx))
	other, err := one.Create(ctx, &Spec{Name: "other", Subnets: taken.Subnets})
	must(t, err)
	_, err = two.Attach(ctx, two.want("app", "box"))
	if !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), other.Subnets[0].Prefix.String()) {
		t.Errorf("attached to a subnet that is another's: %v", err)
	}
}
