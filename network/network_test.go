package network

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestParsePort(t *testing.T) {
	for s, want := range map[string][]Port{
		"80":                       {{Container: 80, Host: AllHosts}},
		"8080:80":                  {{Container: 80, HostPort: 8080, Host: AllHosts}},
		"8080:80/udp":              {{Container: 80, HostPort: 8080, Host: AllHosts, Protocol: "udp"}},
		"127.0.0.1:8080:80":        {{Container: 80, HostPort: 8080, Host: "127.0.0.1"}},
		"127.0.0.1::80":            {{Container: 80, Host: "127.0.0.1"}},
		"[::1]:8080:80/tcp":        {{Container: 80, HostPort: 8080, Host: "::1", Protocol: "tcp"}},
		"8000-8010:80":             {{Container: 80, HostPort: 8000, HostEnd: 8010, Host: AllHosts}},
		"8000-8001:90-91":          {{Container: 90, HostPort: 8000, Host: AllHosts}, {Container: 91, HostPort: 8001, Host: AllHosts}},
		"90-91":                    {{Container: 90, Host: AllHosts}, {Container: 91, Host: AllHosts}},
		"0.0.0.0:65535:65535/sctp": {{Container: 65535, HostPort: 65535, Host: "0.0.0.0", Protocol: "sctp"}},
	} {
		got, err := ParsePort(s)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v", s, got, err, want)
			continue
		}
		for _, p := range got {
			if again, err := ParsePort(p.String()); err != nil || len(again) != 1 || again[0].Container != p.Container || again[0].HostPort != p.HostPort || again[0].Host != p.Host {
				t.Errorf("%s: written as %s, read as %+v, %v", s, p, again, err)
			}
			if err := p.Validate(); err != nil {
				t.Errorf("%s: %v", s, err)
			}
		}
	}
	for _, s := range []string{"", "0", "x", "80/icmp", "65536", "8080:0", "1:2-3", "9-8:9-8", "host:80:80", ":::", "80:80:80", "1.2.3:80:80", "80/"} {
		if got, err := ParsePort(s); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
}

func FuzzParsePort(f *testing.F) {
	f.Add("127.0.0.1:80-90:80-90/udp")
	f.Fuzz(func(t *testing.T, s string) {
		all, err := ParsePort(s)
		for _, p := range all {
			if err := p.Validate(); err != nil {
				t.Errorf("%q gives %+v: %v", s, p, err)
			}
		}
		if (err == nil) == (len(all) == 0) {
			t.Errorf("%q: %d ports, %v", s, len(all), err)
		}
	})
}

func TestEndpointValidate(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	for _, e := range []Endpoint{{Network: "app"}, {Network: None}, {Network: Host}, {Network: Container("x")},
		{Network: "app", Addresses: []netip.Addr{v4, v6}, MAC: "02:00:00:00:00:01", Aliases: []string{"db", "db.example", "a_b-c"}}} {
		if err := e.Validate(); err != nil {
			t.Errorf("%+v: %v", e, err)
		}
	}
	for _, e := range []Endpoint{{}, {Network: "container:"}, {Network: None, Aliases: []string{"x"}}, {Network: Host, MAC: "02:00:00:00:00:01"},
		{Network: "app", Addresses: []netip.Addr{v4, v4}}, {Network: "app", Addresses: []netip.Addr{{}}}, {Network: "app", MAC: "02"},
		{Network: "app", MAC: "01:00:00:00:00:01"}, {Network: "app", Aliases: []string{"a b"}}, {Network: "app", Aliases: []string{""}},
		{Network: "app", Aliases: []string{strings.Repeat("x", 64)}}} {
		if err := e.Validate(); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%+v: %v", e, err)
		}
	}
}

func newManager(t *testing.T) *Manager {
	t.Helper()
	testenv.Root(t)
	dir := testenv.Dir(t)
	m, err := Open(t.Context(), &Options{Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := m.Prune(context.Background(), nil); err != nil {
			t.Error(err)
		}
	})
	return m
}

func names(all []*Info) string {
	var out []string
	for _, i := range all {
		out = append(out, i.Name)
	}
	return strings.Join(out, " ")
}

func TestListAndPrune(t *testing.T) {
	m := newManager(t)
	ctx := t.Context()
	if all, err := m.List(ctx, nil); err != nil || names(all) != "bridge host none" {
		t.Errorf("at first: %s, %v", names(all), err)
	}
	app, err := m.Create(ctx, &Spec{Name: "app", Labels: map[string]string{"tier": "one", "x": ""}, Isolation: Routed, MTU: 1300})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Create(ctx, &Spec{Name: "apple", Internal: true, IPv6: true}); err != nil {
		t.Fatal(err)
	}
	yes, no := true, false
	for _, c := range []struct {
		o    ListOptions
		want string
	}{
		{ListOptions{}, "app apple bridge host none"},
		{ListOptions{Names: []string{"app"}}, "app apple"},
		{ListOptions{Names: []string{"host", "apple"}}, "apple host"},
		{ListOptions{IDs: []string{app.ID()[:10]}}, "app"},
		{ListOptions{Drivers: []string{"null"}}, "none"},
		{ListOptions{Labels: []string{"tier=one"}}, "app"},
		{ListOptions{Labels: []string{"tier=two"}}, ""},
		{ListOptions{Labels: []string{"x", "tier"}}, "app"},
		{ListOptions{Dangling: &yes}, "app apple"},
		{ListOptions{Dangling: &no}, ""},
	} {
		if all, err := m.List(ctx, &c.o); err != nil || names(all) != c.want {
			t.Errorf("%+v: %q, %v, want %q", c.o, names(all), err, c.want)
		}
	}
	i, err := app.Inspect(ctx)
	if err != nil || i.MTU != 1300 || i.Isolation != Routed || i.Interface == "" || len(i.Subnets) != 1 || i.Subnets[0].Gateway.Compare(i.Subnets[0].Prefix.Addr().Next()) != 0 {
		t.Errorf("%+v, %v", i, err)
	}
	if _, err := m.Create(ctx, &Spec{Name: "x2", Isolation: "half"}); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("isolation: %v", err)
	}
	for _, name := range []string{Bridge, Host, None} {
		n, err := m.Get(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if i, err := n.Inspect(ctx); err != nil || i.Name != name || len(i.ID) != 64 {
			t.Errorf("%s: %+v, %v", name, i, err)
		}
		if err := n.Remove(ctx); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("removed %s: %v", name, err)
		}
	}
	removed, err := m.Prune(ctx, &PruneOptions{ListOptions{Labels: []string{"tier"}}})
	if err != nil || !slices.Equal(removed, []string{"app"}) {
		t.Errorf("pruned %v, %v", removed, err)
	}
	if _, err := app.Inspect(ctx); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("inspect what is gone: %v", err)
	}
	if _, err := m.Create(ctx, &Spec{Name: "app"}); err != nil {
		t.Fatal(err)
	}
	if _, err := app.Inspect(ctx); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a handle leads to another network of the same name: %v", err)
	}
}
