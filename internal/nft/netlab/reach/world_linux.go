package reach

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/amphora-go/amphora/internal/nft/netlab"
)

// Engine makes networks of both families and containers of a program that
// answers like netlab.NS.Serve on TCP and UDP ports 80 and 81.
type Engine interface {
	// Network makes a network of both families.
	Network(ctx context.Context, name string, internal bool) ([]Subnet, error)
	// Run starts a container that answers with its name, publishes ports given
	// as docker run's -p takes them, and returns a process of it.
	Run(ctx context.Context, name, network string, publish ...string) (pid int, addrs []netip.Addr, err error)
}

// Subnet is one of a network.
type Subnet struct {
	Prefix  netip.Prefix
	Gateway netip.Addr
}

// Place is where questions come from.
type Place struct {
	Name     string
	NS       *netlab.NS
	Addrs    []netip.Addr
	Resolver bool // one answers at 127.0.0.11
}

// Addr is its own address, whoever asks.
func (p *Place) Addr(_ *Place, v6 bool) string { return p.addr(v6) }

func (p *Place) addr(v6 bool) string {
	for _, a := range p.Addrs {
		if a.Is6() == v6 {
			return a.String()
		}
	}
	return ""
}

// World is a host with somebody outside, who has routes to the containers, and
// containers on the networks app, back and inner, which is internal.
type World struct {
	*netlab.Host
	Places  []*Place
	Targets []Target

	t        testing.TB
	engine   Engine
	gateways map[string][]netip.Addr
	attacks  int
}

// Names of places.
const (
	Host      = "host"
	Outside   = "outside"
	Itself    = "the container itself" // app
	Neighbour = "its neighbour"        // app
	Other     = "other network"        // back
	Inner     = "internal network"     // inner
	Vault     = "vault"                // inner: asked, does not ask
)

// NewWorld makes it in the calling process's namespace, which must be one of its
// own.
func NewWorld(t testing.TB, e Engine) *World {
	t.Helper()
	host := netlab.Open(t, "host", "")
	host.Up("lo")
	w := &World{Host: netlab.HostOn(host), t: t, engine: e, gateways: map[string][]netip.Addr{}}
	w.Route("default", netlab.OutsideV4)
	w.Route("default", netlab.OutsideV6)
	for _, network := range []string{"tcp", "udp"} {
		w.Outside.Serve(network, ":90")
	}
	for _, name := range []string{"app", "back", "inner"} {
		w.network(name)
	}
	w.Places = []*Place{{Name: Host, NS: w.NS}, {Name: Outside, NS: w.Outside}}
	var publish []string
	for _, proto := range []string{"tcp", "udp"} {
		for _, p := range []string{"8080", "127.0.0.1:8081", "[::1]:8081", netlab.HostV4 + ":8082", "[" + netlab.HostV6 + "]:8082"} {
			publish = append(publish, p+":80/"+proto)
		}
	}
	w.run("web", Itself, "app", publish...)
	w.run("client", Neighbour, "app")
	w.run("far", Other, "back")
	w.run("box", Inner, "inner")
	vault := w.run("vault", Vault, "inner")
	w.Places = w.Places[:len(w.Places)-1]
	w.Targets = targets(w, vault)
	return w
}

func (w *World) network(name string) {
	w.t.Helper()
	subnets, err := w.engine.Network(w.t.Context(), name, name == "inner")
	if err != nil {
		w.t.Fatalf("network %s: %v", name, err)
	}
	for _, s := range subnets {
		w.gateways[name] = append(w.gateways[name], s.Gateway)
		via := netlab.HostV4
		if s.Gateway.Is6() {
			via = netlab.HostV6
		}
		w.Outside.Route(s.Prefix.String(), via)
	}
}

func (w *World) run(name, place, network string, publish ...string) *Place {
	w.t.Helper()
	pid, addrs, err := w.engine.Run(w.t.Context(), name, network, publish...)
	if err != nil {
		w.t.Fatalf("container %s: %v", name, err)
	}
	return w.Add(place, name, pid, addrs, true)
}

// Add makes a process's namespace a place.
func (w *World) Add(place, name string, pid int, addrs []netip.Addr, resolver bool) *Place {
	w.t.Helper()
	p := &Place{Name: place, NS: netlab.Open(w.t, name, fmt.Sprintf("/proc/%d/ns/net", pid)), Addrs: addrs, Resolver: resolver}
	w.Places = append(w.Places, p)
	for tries := 0; ; tries++ {
		if _, _, err := p.NS.AskFrom("tcp", "", "127.0.0.1:81", silence); err == nil {
			return p
		} else if tries == 200 {
			w.t.Fatalf("container %s does not listen: %v", name, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Place returns the one of that name.
func (w *World) Place(name string) *Place {
	for _, p := range w.Places {
		if p.Name == name {
			return p
		}
	}
	w.t.Fatalf("no place is called %q", name)
	return nil
}

// Let lets a further place reach what is published, and the outside.
func (w *World) Let(place string) {
	for i, t := range w.Targets {
		if slices.Contains(t.From, Other) {
			w.Targets[i].From = append(slices.Clone(t.From), place)
		}
	}
}

// Routed are the containers on networks that have a way out.
func Routed() []string { return slices.Clone(routed) }

// gateway is the address by which a place knows the host: that of its own
// network, or of app.
func (w *World) gateway(p *Place, v6 bool) string {
	network := map[string]string{Other: "back", Inner: "inner"}[p.Name]
	if network == "" {
		network = "app"
	}
	for _, g := range w.gateways[network] {
		if g.Is6() == v6 {
			return g.String()
		}
	}
	return ""
}
