package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// accept serves every connection of addr until TERM or INT.
func accept(name, network, addr string, serve func(net.Conn)) int {
	l, err := net.Listen(network, addr)
	if err != nil {
		return fail(name, err)
	}
	fmt.Println(name, "on", l.Addr())
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-got
		l.Close()
	}()
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return 0
		}
		if err != nil {
			return fail(name, err)
		}
		go func() {
			defer c.Close()
			serve(c)
		}()
	}
}

func addrOf(args []string, otherwise string) string {
	if len(args) > 0 {
		return args[0]
	}
	return otherwise
}

// httpServe ADDR [BODY] answers every request with BODY, by default with the
// request line, the hostname and the peer's address. It is HTTP/1.0 by hand:
// net/http would triple the size of this program.
func httpServe(args []string) int {
	return accept("http", "tcp", addrOf(args, ":80"), func(c net.Conn) {
		r := bufio.NewReader(c)
		request, err := r.ReadString('\n')
		for err == nil {
			var line string
			if line, err = r.ReadString('\n'); strings.TrimSpace(line) == "" {
				break
			}
		}
		host, _ := os.Hostname()
		body := fmt.Sprintf("%s from %s to %s\n", strings.TrimSpace(request), c.RemoteAddr(), host)
		if len(args) > 1 {
			body = strings.Join(args[1:], " ") + "\n"
		}
		fmt.Fprintf(c, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
	})
}

// httpGet HOST:PORT [PATH] prints the body.
func httpGet(args []string) int {
	if len(args) < 1 {
		return usage("get HOST:PORT [PATH]")
	}
	c, err := net.DialTimeout("tcp", args[0], 5*time.Second)
	if err != nil {
		return fail("get", err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n", addrOf(args[1:], "/"), args[0])
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return fail("get", err)
		}
		if strings.TrimSpace(line) == "" {
			break
		}
	}
	if _, err := io.Copy(os.Stdout, r); err != nil {
		return fail("get", err)
	}
	return 0
}

func tcpecho(args []string) int {
	return accept("tcpecho", "tcp", addrOf(args, ":7"), func(c net.Conn) { io.Copy(c, c) })
}

// udpecho ADDR answers each datagram with itself.
func udpecho(args []string) int {
	c, err := net.ListenPacket("udp", addrOf(args, ":7"))
	if err != nil {
		return fail("udpecho", err)
	}
	fmt.Println("udpecho on", c.LocalAddr())
	b := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return fail("udpecho", err)
		}
		c.WriteTo(b[:n], from)
	}
}

// answer NAME ADDR... answers TCP and UDP on each address with the name and the
// address of who asked.
func answer(args []string) int {
	if len(args) < 2 {
		return usage("answer NAME ADDR...")
	}
	line := func(from net.Addr) []byte {
		host, _, _ := net.SplitHostPort(from.String())
		return []byte(args[0] + " " + strings.TrimPrefix(host, "::ffff:") + "\n")
	}
	for _, addr := range args[1:] {
		c, err := net.ListenPacket("udp", addr)
		if err != nil {
			return fail("answer", err)
		}
		go func() {
			b := make([]byte, 512)
			for {
				if _, from, err := c.ReadFrom(b); err == nil {
					c.WriteTo(line(from), from)
				}
			}
		}()
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return fail("answer", err)
		}
		go func() {
			for {
				if c, err := l.Accept(); err == nil {
					c.Write(line(c.RemoteAddr()))
					c.Close()
				}
			}
		}()
	}
	fmt.Println("answer on", args[1:])
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGTERM, syscall.SIGINT)
	<-got
	return 0
}

// dial [NETWORK] ADDR joins stdin and stdout to a connection; both directions
// end on their own.
func dial(args []string) int {
	network := "tcp"
	if len(args) > 1 {
		network, args = args[0], args[1:]
	}
	if len(args) < 1 {
		return usage("dial [NETWORK] ADDR")
	}
	c, err := net.DialTimeout(network, args[0], 5*time.Second)
	if err != nil {
		return fail("dial", err)
	}
	defer c.Close()
	go func() {
		io.Copy(c, os.Stdin)
		if half, ok := c.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		}
	}()
	if _, err := io.Copy(os.Stdout, c); err != nil {
		return fail("dial", err)
	}
	return 0
}

// listen [NETWORK] ADDR accepts connections and prints what they send.
func listen(args []string) int {
	network := "tcp"
	if len(args) > 1 {
		network, args = args[0], args[1:]
	}
	return accept("listen", network, addrOf(args, ":7"), func(c net.Conn) { io.Copy(os.Stdout, c) })
}

// nslookup NAME prints the addresses, sorted; an address asks for its names.
func nslookup(args []string) int {
	if len(args) != 1 {
		return usage("nslookup NAME|ADDRESS")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r := &net.Resolver{PreferGo: true}
	find := r.LookupHost
	if net.ParseIP(args[0]) != nil {
		find = r.LookupAddr
	}
	found, err := find(ctx, args[0])
	if err != nil {
		return fail("nslookup", err)
	}
	slices.Sort(found)
	for _, f := range found {
		fmt.Println(f)
	}
	return 0
}

// ipAddr prints the interfaces with state and addresses, one a line.
func ipAddr([]string) int {
	all, err := net.Interfaces()
	if err != nil {
		return fail("ip", err)
	}
	for _, i := range all {
		addrs, _ := i.Addrs()
		fmt.Println(i.Name, i.Flags, i.MTU, i.HardwareAddr, addrs)
	}
	return 0
}
