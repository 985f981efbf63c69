package ports

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"

	"github.com/amphora-go/amphora/internal/testenv"
)

func to(targets ...netip.AddrPort) Targets {
	return func(uint16, string) []netip.AddrPort { return targets }
}

// echo is a TCP server that repeats what it gets, ends with what it gets, and
// ends by itself after "bye".
func echo(t testing.TB) netip.AddrPort {
	t.Helper()
	testenv.Root(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				defer c.Close()
				buf := make([]byte, 32<<10)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					c.Write(buf[:n])
					if string(buf[:n]) == "bye" {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); wait.Wait() })
	return netip.MustParseAddrPort(l.Addr().String())
}

func dial(t testing.TB, host string, port uint16) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func say(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, len(text))
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != text {
		t.Fatalf("%q %v", buf, err)
	}
	if text == "bye" {
		if _, err := c.Read(buf); err != io.EOF {
			t.Fatalf("end of stream was not passed on: %v", err)
		}
	}
}

func TestHalfClose(t *testing.T) {
	h := hold(t, Want{Protocol: "tcp", Container: 80})
	if err := h.Serve(to(netip.MustParseAddrPort("[::1]:9"), echo(t))); err != nil { // the first refuses
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		c := dial(t, host, h.Bound()[0].HostPort)
		data := make([]byte, 4<<20)
		rand.Read(data)
		var wait sync.WaitGroup
		wait.Go(func() {
			c.Write(data)
			c.(*net.TCPConn).CloseWrite()
		})
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", host, len(got), err)
		}
		wait.Wait()
	}
}

func TestNobodyThere(t *testing.T) {
	h := hold(t, Want{Protocol: "tcp", Container: 80})
	h.Serve(to(netip.MustParseAddrPort("127.0.0.1:9")))
	c, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(int(h.Bound()[0].HostPort)))
	if err != nil {
		return // the reset was faster than the connect
	}
	defer c.Close()
	if n, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("read %d %v, want a reset", n, err)
	}
}

func TestCloseEndsConnections(t *testing.T) {
	h := hold(t, Want{Protocol: "tcp", Container: 80}, Want{Protocol: "udp", Container: 53})
	h.Serve(to(echo(t)))
	c := dial(t, "::1", h.Bound()[0].HostPort)
	say(t, c, "hello")
	var wait sync.WaitGroup
	wait.Go(func() { h.Close() })
	wait.Go(func() { h.Close() })
	if _, err := io.ReadAll(c); err == nil {
		t.Error("the connection ended in order")
	}
	wait.Wait()
	if err := h.Serve(to()); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
	if h.Bound()[0].HostPort == 0 || h.Bound()[0].Held {
		t.Error(h.Bound())
	}
}

// udpEcho repeats datagrams.
func udpEcho(t testing.TB) netip.AddrPort {
	t.Helper()
	testenv.Root(t)
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			c.WriteTo(buf[:n], from)
		}
	})
	t.Cleanup(func() { c.Close(); wait.Wait() })
	return netip.MustParseAddrPort(c.LocalAddr().String())
}

func TestUDP(t *testing.T) {
	h := hold(t, Want{Protocol: "udp", Container: 53}, Want{Protocol: "udp", Host: netip.MustParseAddr("127.0.0.3"), Container: 53},
		Want{Protocol: "udp", Host: netip.MustParseAddr("0.0.0.0"), Container: 53}, Want{Protocol: "udp", Host: netip.MustParseAddr("::"), Container: 53})
	b := h.Bound()
	early := dialUDPTo(t, "127.0.0.1", b[0].HostPort)
	early.Write([]byte("lost"))
	target := udpEcho(t)
	for range 2 {
		if err := h.Serve(to(target)); err != nil {
			t.Fatal(err)
		}
		// A connected client takes replies from the address it sent to only.
		for _, at := range []struct {
			host string
			port uint16
		}{{"127.0.0.1", b[0].HostPort}, {"127.0.0.2", b[0].HostPort}, {"::1", b[0].HostPort}, {"127.0.0.3", b[1].HostPort}, {"127.0.0.7", b[2].HostPort}, {"::1", b[3].HostPort}} {
			c := dialUDPTo(t, at.host, at.port)
			for _, text := range []string{"one", "two"} {
				say(t, c, text)
			}
		}
		say(t, early, "now") // and not "lost"
		if err := h.Pause(); err != nil {
			t.Fatal(err)
		}
	}
}

func dialUDPTo(t testing.TB, host string, port uint16) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestManyUDPClients goes above the bound; those heard of last stay.
func TestManyUDPClients(t *testing.T) {
	h := hold(t, Want{Protocol: "udp", Container: 53})
	h.Serve(to(udpEcho(t)))
	port := h.Bound()[0].HostPort
	first := dialUDPTo(t, "::1", port)
	say(t, first, "first")
	for i := range maxClients + 8 {
		c := dialUDPTo(t, "127.0.0.1", port)
		say(t, c, strconv.Itoa(i))
		c.Close()
	}
	say(t, first, "again")
	h.Close()
}

// TestPauseUnderLoad changes states while clients come: nothing but whole
// answers and refusals may be seen.
func TestPauseUnderLoad(t *testing.T) {
	h := hold(t, Want{Protocol: "tcp", Container: 80}, Want{Protocol: "udp", Container: 80})
	target := echo(t)
	stop := make(chan struct{})
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := net.Dial("tcp", "[::1]:"+strconv.Itoa(int(h.Bound()[0].HostPort)))
				if err != nil {
					continue
				}
				c.Write([]byte("hello"))
				buf := make([]byte, 5)
				if n, err := io.ReadFull(c, buf); err == nil && string(buf[:n]) != "hello" {
					t.Errorf("read %q", buf[:n])
				}
				c.Close()
			}
		})
	}
	for range 30 {
		if err := errors.Join(h.Serve(to(target)), h.Pause()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wait.Wait()
}
