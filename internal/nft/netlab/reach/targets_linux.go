package reach

import "github.com/amphora-go/amphora/internal/nft/netlab"

// Target is what is asked for.
type Target struct {
	Name   string
	Server string                         // who must answer
	Port   int                            // of TCP and UDP
	Addr   func(p *Place, v6 bool) string // as p knows it; empty: there is none
	Host   string                         // instead of Addr: a name
	From   []string                       // the places that reach it; from all others nobody must
	Never  []string                       // places that do not ask, as the answer is not ours to give
	Seen   func(p *Place, v6 bool) string // as whom the server must see the asker; nil: anybody
}

// containers on networks that have a way out.
var routed = []string{Itself, Neighbour, Other}

func fixed(v4, v6 string) func(*Place, bool) string {
	return func(_ *Place, six bool) string {
		if six {
			return v6
		}
		return v4
	}
}

// targets are the columns of the table. web publishes port 80 three times: as
// 8080 on all addresses, as 8081 on the loopback addresses, and as 8082 on one
// address of the host.
func targets(w *World, vault *Place) []Target {
	web := w.Place(Itself)
	of := func(p *Place) func(*Place, bool) string { return func(_ *Place, v6 bool) string { return p.addr(v6) } }
	loopback, own, outside := fixed("127.0.0.1", "::1"), fixed(netlab.HostV4, netlab.HostV6), fixed(netlab.OutsideV4, netlab.OutsideV6)
	near := []string{Host, Itself, Neighbour}
	all := append([]string{Host, Outside}, routed...)
	return []Target{
		{Name: "its address, published port", Server: "web", Port: 80, Addr: of(web), From: near},
		{Name: "its address, other port", Server: "web", Port: 81, Addr: of(web), From: near},
		{Name: "its name", Server: "web", Port: 80, Host: "web", From: []string{Itself, Neighbour}},
		{Name: "published on all, by loopback", Server: "web", Port: 8080, Addr: loopback, From: []string{Host}},
		{Name: "published on all, by the host's address", Server: "web", Port: 8080, Addr: own, From: all},
		{Name: "published on all, by the gateway", Server: "web", Port: 8080, Addr: w.gateway, From: all},
		{Name: "published on loopback, by it", Server: "web", Port: 8081, Addr: loopback, From: []string{Host}},
		{Name: "published on loopback, by the host's address", Server: "web", Port: 8081, Addr: own},
		{Name: "published on one address, by it", Server: "web", Port: 8082, Addr: own, From: all},
		{Name: "published on one address, by the gateway", Server: "web", Port: 8082, Addr: w.gateway},
		{Name: "published on one address, by loopback", Server: "web", Port: 8082, Addr: loopback},
		{Name: "in the internal network, by address", Server: "vault", Port: 80, Addr: of(vault), From: []string{Host, Inner}},
		{Name: "in the internal network, by name", Server: "vault", Port: 80, Host: "vault", From: []string{Inner}},
		{Name: "the outside", Server: "outside", Port: 90, Addr: outside, From: append([]string{Host, Outside}, routed...), Seen: w.masqueraded},
	}
}

// masqueraded is who asks, as the outside must see it: never a container.
func (w *World) masqueraded(p *Place, v6 bool) string {
	if p.Name == Outside {
		return outsideItself(v6)
	}
	return fixed(netlab.HostV4, netlab.HostV6)(p, v6)
}

func outsideItself(v6 bool) string { return fixed(netlab.OutsideV4, netlab.OutsideV6)(nil, v6) }
