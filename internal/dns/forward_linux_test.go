package dns

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func forwarding(t testing.TB, u Upstream) *lab {
	t.Helper()
	return newLab(t, Config{Networks: []Network{user("app")}, Upstream: u})
}

// TestForwardIsRaw checks that nothing but the id changes on the way up, and
// nothing at all on the way down.
func TestForwardIsRaw(t *testing.T) {
	raw := func(msg []byte) []byte {
		reply := slices.Clone(msg)
		reply[2] |= 0x80
		reply[3] |= 0x20 // AD: no server's business
		return append(reply, "what no parser knows"...)
	}
	up := newUpstream(t, nil, raw)
	l := forwarding(t, Upstream{Servers: []string{up.addr}, Host: true})
	msg := question(t, "Example.COM.", dnsmessage.TypeHINFO, 1400)
	msg[3] |= 0x10 // CD
	for i, network := range []string{"udp", "tcp"} {
		want := raw(slices.Clone(msg))
		if got := exchange(t, l.dial(network), msg); !bytes.Equal(got, want) {
			t.Errorf("%s: got %x, want %x", network, got, want)
		}
		if sent := up.sent(i); !bytes.Equal(sent[2:], msg[2:]) {
			t.Errorf("%s: sent %x for %x", network, sent, msg)
		}
	}
	if !slices.Contains(up.sources(), "tcp") {
		t.Error("a query by TCP went upstream by UDP")
	}
}

// TestWhereItAsks has servers at the same address of both namespaces.
func TestWhereItAsks(t *testing.T) {
	host := newUpstream(t, nil, says("192.0.2.1"))
	for _, c := range []struct {
		host bool
		want string
	}{{true, "192.0.2.1"}, {false, ""}} {
		l := forwarding(t, Upstream{Servers: []string{host.addr}, Host: c.host})
		a := l.ask("example.com.", tA)
		if c.want != "" && !slices.Equal(a.texts, []string{c.want}) || c.want == "" && a.rcode != dnsmessage.RCodeServerFailure {
			t.Errorf("host %v: %+v", c.host, a)
		}
	}
	ns := namespace(t)
	inside := newUpstream(t, ns, says("192.0.2.2"))
	s, err := Listen(ns, &Config{Networks: []Network{user("app")}, Upstream: Upstream{Servers: []string{inside.addr}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l := &lab{t: t, ns: ns, Server: s}
	for _, network := range []string{"udp", "tcp"} {
		a := unpack(t, exchange(t, l.dial(network), question(t, "example.com.", tA, 0)))
		if !slices.Equal(a.texts, []string{"192.0.2.2"}) {
			t.Errorf("%s: %+v", network, a)
		}
	}
}

func TestNextServer(t *testing.T) {
	mute, good := newUpstream(t, nil, silent), newUpstream(t, nil, says("192.0.2.1"))
	broken, refusing := newUpstream(t, nil, fails(rcodeServfail)), newUpstream(t, nil, fails(rcodeRefused))
	const closed = "127.0.0.1:9"
	for name, c := range map[string]struct {
		servers []string
		rcode   dnsmessage.RCode
	}{
		"silent first":  {[]string{mute.addr, good.addr}, 0},
		"closed first":  {[]string{closed, good.addr}, 0},
		"broken first":  {[]string{broken.addr, refusing.addr, good.addr}, 0},
		"all refuse":    {[]string{refusing.addr, refusing.addr}, dnsmessage.RCodeRefused},
		"one, broken":   {[]string{broken.addr}, dnsmessage.RCodeServerFailure},
		"all closed":    {[]string{closed, closed}, dnsmessage.RCodeServerFailure},
		"broken, muted": {[]string{broken.addr, mute.addr}, dnsmessage.RCodeServerFailure},
		"silent":        {[]string{mute.addr}, dnsmessage.RCodeServerFailure},
	} {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(name+" "+network, func(t *testing.T) {
				t.Parallel()
				l := forwarding(t, Upstream{Servers: c.servers, Host: true, Options: []string{"timeout:1", "attempts:1"}})
				a := unpack(t, exchange(t, l.dial(network), question(t, "example.com.", tA, 0)))
				if a.rcode != c.rcode || (c.rcode == 0) != (len(a.texts) == 1) {
					t.Errorf("%+v", a)
				}
			})
		}
	}
}

// TestRoute checks the order of servers without any.
func TestRoute(t *testing.T) {
	order := func(f *forwarder) string {
		var r route
		var b strings.Builder
		for f.next(&r) {
			fmt.Fprint(&b, r.server)
			if r.server == 1 {
				f.mark(1, false) // in the midst of the query
			}
		}
		return b.String()
	}
	f := &forwarder{plan: plan{servers: make([]server, 3), attempts: 2}}
	for _, want := range []string{"012021", "021021"} {
		if got := order(f); got != want {
			t.Errorf("order %s, want %s", got, want)
		}
	}
	f.mark(1, true)
	f.rotate = true
	if a, b := order(f), order(f); a[0] == b[0] {
		t.Errorf("no rotation: %s %s", a, b)
	}
}

// TestForeignAnswers has a server that sends wrong answers before the right one.
func TestForeignAnswers(t *testing.T) {
	ns := namespace(t)
	pc := listenUDP(t, ns)
	var wait sync.WaitGroup
	wait.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			right := says("192.0.2.1")(buf[:n])
			for _, spoil := range []func(b []byte){
				func(b []byte) { b[0] ^= 1 }, func(b []byte) { b[13] ^= 1 }, func(b []byte) { b[2] &^= 0x80 }, func(b []byte) { b[5] = 0 },
			} {
				b := says("192.0.2.66")(buf[:n])
				spoil(b)
				pc.WriteTo(b, from)
			}
			pc.WriteTo([]byte{1, 2, 3}, from)
			pc.WriteTo(right, from)
			pc.WriteTo(right, from)
		}
	})
	defer wait.Wait()
	defer pc.Close()
	s, err := Listen(ns, &Config{Networks: []Network{user("app")}, Upstream: Upstream{Servers: []string{pc.LocalAddr().String()}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l := &lab{t: t, ns: ns, Server: s}
	for range 20 {
		if a := l.ask("example.com.", tA); !slices.Equal(a.texts, []string{"192.0.2.1"}) {
			t.Errorf("%+v", a)
		}
	}
}

// TestManyInFlight sends from many clients with the same id at once: each gets
// its own answer, over a few sockets.
func TestManyInFlight(t *testing.T) {
	up := newUpstream(t, nil, func(msg []byte) []byte {
		var q query
		q.parse(msg)
		var n byte
		fmt.Sscanf(string(q.name), "n%d.example", &n)
		out := q.begin(nil, 0, 0)
		return q.finish(q.answer(out, typeA, []byte{192, 0, 2, n}))
	})
	l := forwarding(t, Upstream{Servers: []string{up.addr}, Host: true})
	var wait sync.WaitGroup
	for i := range 100 {
		c := l.dial("udp")
		wait.Go(func() {
			for range 5 {
				a := unpack(t, exchange(t, c, question(t, fmt.Sprintf("n%d.example.", i), tA, 0)))
				if !slices.Equal(a.texts, []string{fmt.Sprintf("192.0.2.%d", i)}) {
					t.Errorf("%d: %+v", i, a)
				}
			}
		})
	}
	wait.Wait()
	if n := len(up.sources()); n < 2 || n > sockets {
		t.Errorf("%d sockets, want 2 to %d", n, sockets)
	}
}

// TestOverload fills the table of flights; what is above fails at once.
func TestOverload(t *testing.T) {
	up := newUpstream(t, nil, silent)
	l := forwarding(t, Upstream{Servers: []string{up.addr}, Host: true})
	c := l.dial("udp")
	msg := question(t, "example.com.", tA, 0)
	for i := range maxFlights + 1 {
		binary.BigEndian.PutUint16(msg, uint16(i))
		c.Write(msg)
		if i%64 == 63 { // the resolver answers in order: wait until it has got so far
			local := question(t, "1.0.0.127.x.in-addr.arpa.", tA, 0)
			local[2] |= 2 << 3
			c.Write(local)
			c.Read(make([]byte, 512))
		}
	}
	buf := make([]byte, 512)
	n, err := c.Read(buf)
	if err != nil || buf[3]&maskRcode != rcodeServfail || binary.BigEndian.Uint16(buf) != maxFlights {
		t.Errorf("%x %v", buf[:n], err)
	}
}

// TestIdleSockets closes sockets that nobody uses, and makes new ones.
func TestIdleSockets(t *testing.T) {
	up := newUpstream(t, nil, says("192.0.2.1"))
	l := forwarding(t, Upstream{Servers: []string{up.addr}, Host: true})
	for range 2 {
		l.want("example.com.", tA, 0, "192.0.2.1")
		l.up.mu.Lock()
		for _, k := range l.up.links[0] {
			k.used = time.Now().Add(-socketIdle)
		}
		l.up.mu.Unlock()
		l.up.sweep()
		l.up.mu.Lock()
		if len(l.up.links[0]) != 0 || l.up.idle != nil || l.up.open != 0 {
			t.Errorf("%d sockets, %d flights are left", len(l.up.links[0]), l.up.open)
		}
		l.up.mu.Unlock()
	}
}

// TestNetworksChange checks that no socket outlives a change of networks, as its
// source address may be of one that is gone, and that queries on their way are
// asked again.
func TestNetworksChange(t *testing.T) {
	var mu sync.Mutex
	mute := true
	up := newUpstream(t, nil, func(msg []byte) []byte {
		mu.Lock()
		defer mu.Unlock()
		if mute {
			return nil
		}
		return says("192.0.2.1")(msg)
	})
	l := forwarding(t, Upstream{Servers: []string{up.addr}, Host: true, Options: []string{"timeout:30"}})
	c := l.dial("udp")
	c.Write(question(t, "example.com.", tA, 0))
	eventually(t, func() bool { return up.count() == 1 })
	mu.Lock()
	mute = false
	mu.Unlock()
	l.SetNetworks([]Network{user("app"), user("other")})
	buf := make([]byte, 512)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if a := unpack(t, buf[:n]); len(a.texts) != 1 || len(up.sources()) != 2 {
		t.Errorf("%+v from %v", a, up.sources())
	}
}

// TestLongAnswer is one that no UDP client of ours takes.
func TestLongAnswer(t *testing.T) {
	up := newUpstream(t, nil, func(msg []byte) []byte {
		return append(says("192.0.2.1")(msg), make([]byte, 9000)...)
	})
	l := forwarding(t, Upstream{Servers: []string{up.addr}, Host: true})
	if a := unpack(t, exchange(t, l.dial("udp"), question(t, "example.com.", tA, 0))); !a.truncated || len(a.texts) != 0 {
		t.Errorf("%+v", a)
	}
	if n := len(exchange(t, l.dial("tcp"), question(t, "example.com.", tA, 0))); n < 9000 {
		t.Errorf("%d bytes by TCP", n)
	}
}

// TestCloseInFlight closes while queries wait upstream.
func TestCloseInFlight(t *testing.T) {
	up := newUpstream(t, nil, silent)
	l := forwarding(t, Upstream{Servers: []string{up.addr, "127.0.0.1:9"}, Host: true})
	c := l.dial("udp")
	for range 20 {
		c.Write(question(t, "example.com.", tA, 0))
	}
	writeMessage(l.dial("tcp"), question(t, "example.com.", tA, 0))
	eventually(t, func() bool { return up.count() >= 20 })
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestListenErrors(t *testing.T) {
	ns := namespace(t)
	for _, servers := range [][]string{{"resolver.example"}, {"127.0.0.11"}, {"127.0.0.11:53"}, make([]string, 40)} {
		if _, err := Listen(ns, &Config{Upstream: Upstream{Servers: servers}}); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%v: %v", servers, err)
		}
	}
	file, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := Listen(file, &Config{}); err == nil {
		t.Error("listened in no namespace")
	}
	_, err = listen(ns, &Config{}, func(int, netipAddr, uint16, uint16) error { return errors.New("no nf_tables") })
	if err == nil || !strings.Contains(err.Error(), "no nf_tables") || !strings.Contains(err.Error(), "port 53") {
		t.Error(err)
	}
}

func TestParseResolvConf(t *testing.T) {
	got := ParseResolvConf([]byte("# nameserver 1.1.1.1\n; x\nnameserver 192.0.2.1\nnameserver\nnameserver nonsense\n" +
		"nameserver fe80::1%eth0\r\ndomain a.example\nsearch b.example c.example\noptions timeout:3 rotate\noptions attempts:9\n"))
	want := ResolvConf{
		Servers: []string{"192.0.2.1", "fe80::1%eth0"}, Search: []string{"b.example", "c.example"},
		Options: []string{"timeout:3", "rotate", "attempts:9"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	p, err := (&Upstream{Servers: got.Servers, Options: got.Options, Host: true}).parse()
	if err != nil || p.timeout != 3*time.Second || p.attempts != 5 || !p.rotate || p.servers[0].host || !p.servers[1].host {
		t.Errorf("%+v %v", p, err)
	}
}
