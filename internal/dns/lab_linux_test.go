package dns

import (
	"bytes"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/amphora-go/amphora/internal/attachment"
	"github.com/amphora-go/amphora/internal/testenv"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// namespace makes a network namespace with loopback.
func namespace(t testing.TB) *os.File {
	t.Helper()
	testenv.Root(t)
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	var ns *os.File
	err = within(int(here.Fd()), func() (err error) { // a thread to throw away
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		if ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		req, _ := unix.NewIfreq("lo")
		req.SetUint16(unix.IFF_UP)
		return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// lab is a server, its namespace and its state.
type lab struct {
	t     testing.TB
	ns    *os.File
	state string
	*Server
}

func newLab(t testing.TB, c Config) *lab {
	t.Helper()
	ns := namespace(t)
	c.State = testenv.Dir(t)
	s, err := Listen(ns, &c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &lab{t, ns, c.State, s}
}

func user(name string) Network { return Network{Name: name, Names: true, Forward: true} }

// attach writes an attachment: the first name is also the id.
func (l *lab) attach(network string, names []string, addrs ...string) {
	l.t.Helper()
	a := &attachment.Attachment{Network: network, ID: names[0], Interface: "eth0", Names: names}
	for _, x := range addrs {
		ip := netip.MustParseAddr(x)
		a.Addresses = append(a.Addresses, netip.PrefixFrom(ip, ip.BitLen()-8))
	}
	if err := attachment.Write(l.state, a); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) detach(network, id string) {
	l.t.Helper()
	if err := attachment.Remove(l.state, network, id, "eth0"); err != nil {
		l.t.Fatal(err)
	}
}

// dial connects to the resolver as a process of the container does.
func (l *lab) dial(network string) net.Conn {
	l.t.Helper()
	var c net.Conn
	err := within(int(l.ns.Fd()), func() (err error) {
		c, err = net.Dial(network, "127.0.0.11:53")
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// question packs a query; size 0 is one without EDNS.
func question(t testing.TB, name string, qtype dnsmessage.Type, size int) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 0xbeef, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: qtype, Class: dnsmessage.ClassINET}},
	}
	if size > 0 {
		var h dnsmessage.ResourceHeader
		h.SetEDNS0(size, dnsmessage.RCodeSuccess, false)
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func exchange(t testing.TB, c net.Conn, msg []byte) []byte {
	t.Helper()
	if _, ok := c.(*net.TCPConn); ok {
		if err := writeMessage(c, msg); err != nil {
			t.Fatal(err)
		}
		reply, err := readMessage(c, nil)
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	if _, err := c.Write(msg); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// answer is a reply in short.
type answer struct {
	rcode     dnsmessage.RCode
	truncated bool
	texts     []string
	edns      bool
	size      int
}

func unpack(t testing.TB, msg []byte) answer {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(msg); err != nil {
		t.Fatalf("answer %x: %v", msg, err)
	}
	if !m.Response || !m.RecursionAvailable || m.ID != 0xbeef {
		t.Errorf("header %+v", m.Header)
	}
	a := answer{rcode: m.RCode, truncated: m.Truncated, edns: len(m.Additionals) > 0, size: len(msg)}
	for _, r := range m.Answers {
		if r.Header.Name != m.Questions[0].Name {
			t.Errorf("answer for %v to a question for %v", r.Header.Name, m.Questions[0].Name)
		}
		switch b := r.Body.(type) {
		case *dnsmessage.AResource:
			a.texts = append(a.texts, netip.AddrFrom4(b.A).String())
		case *dnsmessage.AAAAResource:
			a.texts = append(a.texts, netip.AddrFrom16(b.AAAA).String())
		case *dnsmessage.PTRResource:
			a.texts = append(a.texts, b.PTR.String())
		}
	}
	return a
}

func (l *lab) ask(name string, qtype dnsmessage.Type) answer {
	l.t.Helper()
	return unpack(l.t, exchange(l.t, l.dial("udp"), question(l.t, name, qtype, 1232)))
}

// upstream is a name server: by UDP and TCP it passes what it gets to reply,
// whose nil is silence. ns nil is the namespace of the test.
type upstream struct {
	addr string
	mu   sync.Mutex
	got  [][]byte
	from map[string]bool
}

func newUpstream(t testing.TB, ns *os.File, reply func(msg []byte) []byte) *upstream {
	t.Helper()
	var pc net.PacketConn
	var l net.Listener
	open := func() (err error) {
		for range 100 { // the number that UDP gets may be somebody's for TCP
			if pc, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
				return err
			}
			if l, err = net.Listen("tcp", pc.LocalAddr().String()); err == nil {
				return nil
			}
			pc.Close()
		}
		return err
	}
	err := error(nil)
	if ns != nil {
		err = within(int(ns.Fd()), open)
	} else {
		err = open()
	}
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{addr: pc.LocalAddr().String(), from: map[string]bool{}}
	note := func(msg []byte, from string) {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.got = append(u.got, bytes.Clone(msg))
		u.from[from] = true
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			note(buf[:n], from.String())
			if r := reply(bytes.Clone(buf[:n])); r != nil {
				pc.WriteTo(r, from)
			}
		}
	})
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				defer c.Close()
				msg, err := readMessage(c, nil)
				if err != nil {
					return
				}
				note(msg, "tcp")
				if r := reply(msg); r != nil {
					writeMessage(c, r)
				}
			})
		}
	})
	t.Cleanup(func() { pc.Close(); l.Close(); wait.Wait() })
	return u
}

func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.got)
}

func (u *upstream) sent(i int) []byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.got[i]
}

func (u *upstream) sources() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Collect(maps.Keys(u.from))
}

// says answers A questions with one address.
func says(ip string) func([]byte) []byte {
	return func(msg []byte) []byte {
		var q query
		if rcode, ok := q.parse(msg); !ok || rcode != 0 {
			return nil
		}
		out := q.begin(nil, 0, 0)
		return q.finish(q.answer(out, typeA, netip.MustParseAddr(ip).AsSlice()))
	}
}

// fails answers with an rcode.
func fails(rcode int) func([]byte) []byte {
	return func(msg []byte) []byte {
		var q query
		q.parse(msg)
		return q.fail(nil, rcode)
	}
}

type netipAddr = netip.Addr

// listenUDP opens a socket on loopback of a namespace.
func listenUDP(t testing.TB, ns *os.File) net.PacketConn {
	t.Helper()
	var pc net.PacketConn
	err := within(int(ns.Fd()), func() (err error) {
		pc, err = net.ListenPacket("udp", "127.0.0.1:0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return pc
}

func silent([]byte) []byte { return nil }
