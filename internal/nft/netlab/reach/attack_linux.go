package reach

import (
	"fmt"
	"time"

	"github.com/amphora-go/amphora/internal/nft/netlab"
)

// Attacks tries what must not get through, from a container that may do
// anything in its own namespace, and returns what did. The container is of no
// use afterwards.
func (w *World) Attacks() (through []string) {
	w.t.Helper()
	w.attacks++
	evil := w.run(fmt.Sprintf("evil%d", w.attacks), "evil", "app")
	w.Places = w.Places[:len(w.Places)-1]
	return append(w.spoof(evil), w.steal(evil)...)
}

// spoof sends with the address of a container of another network, and of
// somebody outside, to the host.
func (w *World) spoof(evil *Place) (through []string) {
	victim := w.Place(Other)
	for i, c := range []struct{ own, spoofed, host, bits string }{
		{evil.addr(false), victim.addr(false), netlab.HostV4, "/32"}, {evil.addr(true), victim.addr(true), netlab.HostV6, "/128"},
		{evil.addr(false), netlab.OutsideV4, netlab.HostV4, "/32"}, {evil.addr(true), netlab.OutsideV6, netlab.HostV6, "/128"},
	} {
		to := netlab.Addr(c.host, 4000+10*w.attacks+i)
		heard := w.Hear(to)
		evil.NS.Addr("lo", c.spoofed+c.bits)
		evil.NS.Send(netlab.Addr(c.spoofed, 3999), to)
		evil.NS.Send(netlab.Addr(c.own, 3999), to) // what is heard first says it all
		select {
		case from := <-heard:
			if from != c.own {
				through = append(through, fmt.Sprintf("the host heard %s, which is not the container's address", from))
			}
		case <-time.After(patience):
			through = append(through, "the host heard nothing of the container")
		}
		w.forget(evil, c.spoofed)
	}
	return through
}

func (w *World) forget(evil *Place, addr string) {
	lo := evil.NS.Link("lo")
	all, err := evil.NS.Netlink().AddrList(lo, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, a := range all {
		if a.IP.String() == addr {
			if err := evil.NS.Netlink().AddrDel(lo, &a); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// steal asks a service on the host's loopback address by way of the gateway,
// which route_localnet on a bridge would allow.
func (w *World) steal(evil *Place) (through []string) {
	secret := netlab.Addr("127.0.0.1", 7700+w.attacks)
	w.Serve("tcp", secret)
	evil.NS.Sysctl("net/ipv4/conf/all/route_localnet", "1")
	w.forget(evil, "127.0.0.1")
	evil.NS.Route("127.0.0.1/32", w.gateway(w.Place(Neighbour), false))
	if server, _, err := evil.NS.AskFrom("tcp", "", secret, silence); err == nil {
		through = append(through, server+"'s service on 127.0.0.1 answered a container")
	}
	return through
}
