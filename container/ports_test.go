package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/amphora-go/amphora/network"
)

// fetch gets a page from the host.
func fetch(ctx context.Context, at string) (string, error) {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", at)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(conn, "GET / HTTP/1.0\r\n\r\n")
	b, err := io.ReadAll(conn)
	_, body, _ := strings.Cut(string(b), "\r\n\r\n")
	return strings.TrimSpace(body), err
}

func TestPublishedPorts(t *testing.T) {
	n := newNets(t)
	spec := Spec{Name: "web", Networks: on("app"), Process: Process{Env: []string{`URL=http://here:{{port "80/tcp"}}/`}},
		Ports: []network.Port{{Container: 80}, {Container: 7, Protocol: "udp", Host: network.AllHosts}, {Container: 81, Host: network.AllHosts}}}
	c := n.bench.start(t, spec, "pause")
	serving(t, c, "http", ":80", "published")
	serving(t, c, "http", ":81", "to all")
	at, err := c.Port(t.Context(), "80")
	if err != nil || !at.Addr().IsLoopback() {
		t.Fatalf("port 80 is at %v, %v", at, err)
	}
	if got, err := fetch(t.Context(), at.String()); got != "published" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got := execOutput(t, c, "env"); !strings.Contains(got, fmt.Sprintf("URL=http://here:%d/", at.Port())) {
		t.Errorf("environment %q", got)
	}
	all, err := c.Port(t.Context(), "81/tcp")
	if err != nil {
		t.Fatal(err)
	}
	gw := inspect(t, c).Networks[0].Gateways[0]
	for _, host := range []string{"127.0.0.1", "::1", gw.String()} {
		if got, err := fetch(t.Context(), net.JoinHostPort(host, fmt.Sprint(all.Port()))); got != "to all" || err != nil {
			t.Errorf("%s: %q, %v", host, got, err)
		}
	}
	far := n.box(t, "far", "back")
	for _, from := range []*Container{c, far} { // itself, and another network
		if got := execOutput(t, from, "get", fmt.Sprintf("%s:%d", gw, all.Port())); got != "to all" {
			t.Errorf("from a container: %q", got)
		}
	}
	if _, err := c.Port(t.Context(), "9"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("port 9: %v", err)
	}
	// Who else wants it learns who has it.
	second := n.bench.create(t, Spec{Ports: []network.Port{{Container: 80, HostPort: at.Port()}}}, "pause")
	err = second.Start(t.Context())
	is(t, err, fs.ErrExist)
	says(t, err, "web", fmt.Sprint(at.Port()))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	third := n.bench.create(t, Spec{Ports: []network.Port{{Container: 80, HostPort: uint16(l.Addr().(*net.TCPAddr).Port)}}}, "pause")
	err = third.Start(t.Context())
	is(t, err, fs.ErrExist)
	says(t, err, "container.test")
	// With the network that publishes them the ports move.
	if err := c.Connect(t.Context(), network.Endpoint{Network: "back"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Disconnect(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	if got, err := fetch(t.Context(), at.String()); got != "published" || err != nil {
		t.Errorf("after a move: %q, %v", got, err)
	}
	// Whoever is told of the end finds the port free.
	if err := c.Stop(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := second.Start(t.Context()); err != nil {
		t.Errorf("the port is not free: %v", err)
	}
}

// TestStopUnderConnections ends containers while connections keep arriving at
// the sockets that hold their ports.
func TestStopUnderConnections(t *testing.T) {
	n := newNets(t, network.Spec{Name: "app"})
	for range 5 {
		c := n.bench.start(t, Spec{Networks: on("app"), Ports: []network.Port{{Container: 80, Host: network.AllHosts}, {Container: 7, Protocol: "udp", Host: network.AllHosts}}}, "http", ":80", "busy")
		var at [2]string
		for i, port := range []string{"80/tcp", "7/udp"} {
			p, err := c.Port(t.Context(), port)
			if err != nil {
				t.Fatal(err)
			}
			at[i] = net.JoinHostPort("::1", fmt.Sprint(p.Port())) // what the kernel cannot translate
		}
		ctx, done := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		for range 8 {
			callers.Go(func() {
				for ctx.Err() == nil {
					fetch(ctx, at[0])
					if u, err := net.Dial("udp", at[1]); err == nil {
						u.Write([]byte("x"))
						u.Close()
					}
				}
			})
		}
		time.Sleep(20 * time.Millisecond)
		stop, cancel := context.WithTimeout(t.Context(), patience)
		err := c.Stop(stop, nil)
		cancel()
		done()
		callers.Wait()
		if err != nil {
			t.Fatalf("it does not end: %v", err)
		}
	}
}
