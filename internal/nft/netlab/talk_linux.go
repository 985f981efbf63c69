package netlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
)

// How long is waited for an answer: one that must come, and one that must not.
const (
	patience = 5 * time.Second
	silence  = 400 * time.Millisecond
)

// Serve answers on an address, for TCP and UDP ("tcp", "udp"), with the name of
// the namespace and the address of who asked.
func (n *NS) Serve(network, addr string) {
	n.t.Helper()
	var err error
	if network == "udp" {
		var c net.PacketConn
		if err = n.Do(func() (err error) { c, err = net.ListenPacket(network, addr); return err }); err == nil {
			n.t.Cleanup(func() { c.Close() })
			go n.answerPackets(c)
		}
	} else {
		var l net.Listener
		if err = n.Do(func() (err error) { l, err = net.Listen(network, addr); return err }); err == nil {
			n.t.Cleanup(func() { l.Close() })
			go n.answer(l)
		}
	}
	n.must(err, "serve "+network+" "+addr)
}

func (n *NS) answer(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		fmt.Fprintf(c, "%s %s\n", n.Name, host(c.RemoteAddr()))
		c.Close()
	}
}

func (n *NS) answerPackets(c net.PacketConn) {
	buf := make([]byte, 512)
	for {
		_, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(fmt.Appendf(nil, "%s %s\n", n.Name, host(from)), from)
	}
}

func host(a net.Addr) string {
	ap, _ := netip.ParseAddrPort(a.String())
	return ap.Addr().Unmap().String()
}

// Ask asks a server; it returns the server's name and the address it saw.
func (n *NS) Ask(network, addr string) (server, saw string, err error) {
	return n.AskFrom(network, "", addr, patience)
}

// AskFrom is Ask from a local address ("" for any) that waits so long.
func (n *NS) AskFrom(network, local, addr string, wait time.Duration) (server, saw string, err error) {
	deadline := time.Now().Add(wait)
	var c net.Conn
	err = n.Do(func() error {
		c, err = dial(network, local, addr, deadline)
		return err
	})
	if err != nil {
		return "", "", err
	}
	defer c.Close()
	buf := make([]byte, 512)
	for tries := time.Duration(1); ; tries++ {
		if network == "udp" { // asks again: a packet may be lost
			if _, err := c.Write([]byte("?")); err != nil {
				return "", "", err
			}
		}
		c.SetReadDeadline(deadline)
		if again := time.Now().Add(200 * time.Millisecond); network == "udp" && again.Before(deadline) {
			c.SetReadDeadline(again)
		}
		m, err := c.Read(buf)
		if err == nil {
			server, saw, _ = strings.Cut(string(bytes.TrimSpace(buf[:m])), " ")
			return server, saw, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || !time.Now().Before(deadline) {
			return "", "", err
		}
	}
}

// dial blocks in the system call's own thread: a name is never resolved, so no
// other goroutine opens a socket.
func dial(network, local, addr string, deadline time.Time) (net.Conn, error) {
	d := net.Dialer{Deadline: deadline, FallbackDelay: -1}
	if local != "" {
		if network == "udp" {
			d.LocalAddr = net.UDPAddrFromAddrPort(netip.MustParseAddrPort(local))
		} else {
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort(local))
		}
	}
	return d.Dial(network, addr)
}

// Lookup asks the resolver at an address for those of a name.
func (n *NS) Lookup(ctx context.Context, resolver, network, name string) ([]netip.Addr, error) {
	r := &net.Resolver{PreferGo: true, Dial: func(_ context.Context, network, _ string) (c net.Conn, err error) {
		err = n.Do(func() error {
			c, err = dial(network, "", resolver, time.Now().Add(patience))
			return err
		})
		return c, err
	}}
	return r.LookupNetIP(ctx, network, name)
}

// Reach fails the test unless the server of that name answers. It returns the
// address that the server saw.
func (n *NS) Reach(network, addr, server string) string {
	n.t.Helper()
	got, saw, err := n.Ask(network, addr)
	if err != nil || got != server {
		n.t.Errorf("%s asks %s %s: answered by %q, %v; want %s", n.Name, network, addr, got, err, server)
	}
	return saw
}

// Miss fails the test if anybody answers.
func (n *NS) Miss(network, addr string) {
	n.t.Helper()
	if got, _, err := n.AskFrom(network, "", addr, silence); err == nil {
		n.t.Errorf("%s asks %s %s: answered by %q, want nobody", n.Name, network, addr, got)
	}
}

// Addr joins a host and a port.
func Addr(host string, port int) string { return net.JoinHostPort(host, fmt.Sprint(port)) }

// Hear returns a channel of the addresses that packets to a UDP address come
// from. Nobody answers them.
func (n *NS) Hear(addr string) <-chan string {
	n.t.Helper()
	var c net.PacketConn
	n.must(n.Do(func() (err error) { c, err = net.ListenPacket("udp", addr); return err }), "hear "+addr)
	n.t.Cleanup(func() { c.Close() })
	heard := make(chan string, 64)
	go func() {
		defer close(heard)
		buf := make([]byte, 512)
		for {
			_, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			heard <- host(from)
		}
	}()
	return heard
}

// Send sends one UDP packet from a local address, which need not be routed here.
func (n *NS) Send(local, addr string) {
	n.t.Helper()
	var c net.Conn
	n.must(n.Do(func() (err error) { c, err = dial("udp", local, addr, time.Now().Add(patience)); return err }), "send to "+addr)
	_, err := c.Write([]byte("!"))
	c.Close()
	n.must(err, "send to "+addr)
}
