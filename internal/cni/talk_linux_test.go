package cni

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/amphora-go/amphora/internal/nft"
)

func netJoin(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }

// in runs f on a thread in the namespace; "" is the run's own.
func in(t testing.TB, ns string, f func() error) {
	t.Helper()
	if ns == "" {
		ns = "/proc/self/ns/net"
	}
	file, err := openNetNS(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := inNetNS(file, f); err != nil {
		t.Fatal(err)
	}
}

// dialer opens the socket on the calling thread, which is where it belongs: no
// happy eyeballs, no goroutines.
func dialHere(addr string) (net.Conn, error) {
	return (&net.Dialer{Timeout: 5 * time.Second, FallbackDelay: -1}).Dial("tcp", addr)
}

// talk has a client in one namespace say something to a server in another, and
// returns the address that the server saw.
func talk(t testing.TB, from, to, addr string) netip.AddrPort {
	t.Helper()
	return talkVia(t, from, to, addr, addr)
}

// talkVia is talk where the client knows the server by another address.
func talkVia(t testing.TB, from, to, listen, dial string) netip.AddrPort {
	t.Helper()
	var server net.Listener
	in(t, to, func() (err error) { server, err = net.Listen("tcp", listen); return err })
	defer server.Close()
	var seen netip.AddrPort
	done := make(chan error, 1)
	go func() {
		conn, err := server.Accept()
		if err != nil {
			done <- err
			return
		}
		defer conn.Close()
		seen = conn.RemoteAddr().(*net.TCPAddr).AddrPort()
		_, err = conn.Write([]byte("hello"))
		done <- err
	}()
	in(t, from, func() error {
		conn, err := dialHere(dial)
		if err != nil {
			return err
		}
		defer conn.Close()
		data, err := io.ReadAll(conn)
		if string(data) != "hello" {
			err = errors.Join(err, errors.New("read "+string(data)))
		}
		return err
	})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return seen
}

// Real traffic: to the neighbour, from the host, to the host, by the published
// port, to itself by it.
func TestTraffic(t *testing.T) {
	l := newRealLab(t)
	l.down()
	a, b := newNS(t), newNS(t)
	for _, ns := range []string{a, b, ""} {
		if ns == "" {
			ns = "/proc/self/ns/net"
		}
		if err := Loopback(ns); err != nil {
			t.Fatal(err)
		}
	}
	ra := l.mustAdd("c1", a, "eth0", func(r *Request) { r.Ports = []Port{{Protocol: "tcp", HostPort: 8081, Container: 80}} })
	rb := l.mustAdd("c2", b, "eth0", nil)
	for i := range 2 { // both families
		addr, gw := netJoin(ra.Addresses[i].Addr(), 80), ra.Gateways[i]
		if seen := talk(t, b, a, addr); seen.Addr() != rb.Addresses[i].Addr() {
			t.Errorf("the neighbour came as %s", seen)
		}
		talk(t, "", a, addr)
		talk(t, a, "", netJoin(gw, 90))
		talkVia(t, "", a, addr, netJoin(gw, 8081)) // own address of the host
		talkVia(t, b, a, addr, netJoin(gw, 8081))
		talkVia(t, a, a, addr, netJoin(gw, 8081)) // hairpin
	}
	talkVia(t, "", a, netJoin(ra.Addresses[0].Addr(), 80), "127.0.0.1:8081")
	// Somebody flushed the rules: the next attachment has all it needs.
	if err := l.opts.Table.(*nft.Table).Drop(); err != nil {
		t.Fatal(err)
	}
	c := newNS(t)
	rc := l.mustAdd("c3", c, "eth0", func(r *Request) { r.Ports = []Port{{Protocol: "tcp", HostPort: 8083, Container: 80}} })
	talkVia(t, b, c, netJoin(rc.Addresses[0].Addr(), 80), netJoin(ra.Gateways[0], 8083))
	l.mustDel("c3", c, "eth0")
	l.mustDel("c1", a, "eth0")
	l.mustDel("c2", b, "eth0")
	l.clean("after DEL")
}

// Out through an uplink of a machine that did not forward before: with the
// host's address, in both families, sealed.
func TestEgress(t *testing.T) {
	l := newRealLab(t)
	l.down()
	routing(t, "0")
	t.Cleanup(func() { routing(t, "1") })
	far, ns := newNS(t), newNS(t)
	link := uplink(t, "up0", "fd98::1/64", 1500)
	host(t, func(h *netlink.Handle) error {
		a, err := netlink.ParseAddr("10.205.0.1/24")
		if err != nil {
			return err
		}
		return h.AddrAdd(link, a)
	})
	file, err := openNetNS(far)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	host(t, func(h *netlink.Handle) error {
		peer, err := h.LinkByName("up0p")
		if err != nil {
			return err
		}
		return h.LinkSetNsFd(peer, int(file.Fd()))
	})
	insideOf(t, far, func(h *netlink.Handle) error {
		peer, err := h.LinkByName("up0p")
		if err != nil {
			return err
		}
		return errors.Join(addAddress(h, peer, netip.MustParsePrefix("10.205.0.2/24")),
			addAddress(h, peer, netip.MustParsePrefix("fd98::2/64")), h.LinkSetUp(peer))
	})
	res := l.mustAdd("c1", ns, "eth0", func(r *Request) { r.Ports = []Port{{Protocol: "tcp", HostPort: 8082, Container: 80}} })
	for i, out := range []string{"10.205.0.2", "fd98::2"} {
		addr := netip.MustParseAddr(out)
		if seen := talk(t, ns, far, netJoin(addr, 80)); seen.Addr() != addr.Prev() {
			t.Errorf("came as %s", seen)
		}
		talkVia(t, far, ns, netJoin(res.Addresses[i].Addr(), 80), netJoin(addr.Prev(), 8082))
	}
	l.mustDel("c1", ns, "eth0")
	l.clean("after DEL")
}
