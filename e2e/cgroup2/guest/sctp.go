//go:build linux

package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/amphora-go/amphora/container"
	"github.com/amphora-go/amphora/network"
	"github.com/amphora-go/amphora/volume"
	"golang.org/x/sys/unix"
)

const sctpPort = 3868

// sctp publishes a port of the protocol that the host's kernel lacks and this
// one has, and reaches it from the machine and from another container.
func sctp(g *guest) error {
	server, err := g.eng.Containers().Create(g.ctx, sctpBox("sctp-server", "sctp-serve"), nil)
	if err != nil {
		return err
	}
	defer server.Remove(g.ctx, &container.RemoveOptions{Force: true})
	if err := server.Start(g.ctx); err != nil {
		return explain(err)
	}
	published, err := server.Port(g.ctx, "3868/sctp")
	if err != nil {
		return err
	}
	port := strconv.Itoa(int(published.Port()))
	gateway, err := sctpGateway(g)
	if err != nil {
		return err
	}
	for _, at := range []string{"127.0.0.1:" + port, gateway + ":" + port} {
		if err := sctpAsk(at); err != nil {
			return fmt.Errorf("from the machine to %s: %w", at, err)
		}
		g.say("sctp: the machine reaches %s", at)
	}
	client := sctpBox("", "sctp-ask", gateway+":"+port)
	client.Ports = nil
	cmd := g.eng.Command(g.ctx, boxImage)
	cmd.Spec = *client
	if out, err := cmd.Output(); err != nil {
		return fmt.Errorf("from a container to %s:%s: %w", gateway, port, explain(err))
	} else {
		g.say("sctp: a container reaches %s:%s: %s", gateway, port, out)
	}
	return nil
}

// sctpBox runs this very program in a container, with the libraries it needs.
func sctpBox(name string, args ...string) *container.Spec {
	s := &container.Spec{Name: name, Image: boxImage,
		Ports: []network.Port{{Container: sctpPort, Protocol: "sctp", Host: "0.0.0.0"}}}
	s.Entrypoint, s.Command = []string{"/guest"}, args
	exe, _ := os.Executable()
	s.Mounts = append(s.Mounts, volume.Mount{Type: volume.Bind, Source: exe, Target: "/guest", ReadOnly: true})
	for _, dir := range []string{"/lib", "/lib64", "/usr/lib"} {
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			s.Mounts = append(s.Mounts, volume.Mount{Type: volume.Bind, Source: dir, Target: dir, ReadOnly: true})
		}
	}
	return s
}

// sctpGateway is the machine's address on the default network.
func sctpGateway(g *guest) (string, error) {
	n, err := g.eng.Networks().Get(g.ctx, "bridge")
	if err != nil {
		return "", err
	}
	info, err := n.Inspect(g.ctx)
	if err != nil {
		return "", err
	}
	return info.Subnets[0].Gateway.String(), nil
}

func sctpSocket() (int, error) {
	return unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
}

// sctpServe answers each connection with the line it got.
func sctpServe() error {
	fd, err := sctpSocket()
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: sctpPort}); err != nil {
		return err
	}
	if err := unix.Listen(fd, 5); err != nil {
		return err
	}
	for {
		c, _, err := unix.Accept(fd)
		if err != nil {
			return err
		}
		buf := make([]byte, 100)
		if n, err := unix.Read(c, buf); err == nil {
			unix.Write(c, buf[:n])
		}
		unix.Close(c)
	}
}

// sctpAsk sends a line and wants it back. The server may be starting.
func sctpAsk(at string) error {
	var a unix.SockaddrInet4
	var ip [4]int
	if _, err := fmt.Sscanf(at, "%d.%d.%d.%d:%d", &ip[0], &ip[1], &ip[2], &ip[3], &a.Port); err != nil {
		return err
	}
	for i := range ip {
		a.Addr[i] = byte(ip[i])
	}
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = sctpAskOnce(&a); err == nil {
			return nil
		}
	}
	return err
}

func sctpAskOnce(a *unix.SockaddrInet4) error {
	fd, err := sctpSocket()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	limit := &unix.Timeval{Sec: 5}
	for _, opt := range []int{unix.SO_SNDTIMEO, unix.SO_RCVTIMEO} {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, opt, limit); err != nil {
			return err
		}
	}
	if err := unix.Connect(fd, a); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if _, err := unix.Write(fd, []byte("hello")); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	buf := make([]byte, 100)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	return want("echo", string(buf[:n]), "hello")
}
