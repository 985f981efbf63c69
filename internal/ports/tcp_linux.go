package ports

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxConnections bounds what clients can make a supervisor spend: some
	// 10 KiB and six descriptors (two sockets, two pipes) for each connection.
	// Those above it are reset.
	maxConnections = 2048

	// dialTimeout is how long a client waits for a container that neither
	// accepts nor refuses.
	dialTimeout = 10 * time.Second
)

// connections are those that are being copied.
type connections struct {
	mu     sync.Mutex
	open   map[*connection]struct{}
	closed bool
	wait   sync.WaitGroup
}

// connection is one client and, once dialled, its target.
type connection struct {
	client, target *net.TCPConn
	cancel         context.CancelFunc // ends the dialling
}

// add registers a connection; false if there may be no more.
func (c *connections) add(n *connection) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.open) >= maxConnections {
		return false
	}
	c.open[n] = struct{}{}
	c.wait.Add(1)
	return true
}

// connected notes the target; false if everything is being closed.
func (c *connections) connected(n *connection, target *net.TCPConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	n.target = target
	return !c.closed
}

func (c *connections) remove(n *connection) {
	c.mu.Lock()
	delete(c.open, n)
	c.mu.Unlock()
	c.wait.Done()
}

func (c *connections) close() {
	c.mu.Lock()
	c.closed = true
	for n := range c.open {
		n.cancel()
		n.abort()
	}
	c.mu.Unlock()
	c.wait.Wait()
}

// accept takes the connections that wait at p.
func (s *server) accept(p *port) {
	for range perEvent {
		// The peer's address comes from RemoteAddr when it is needed.
		fd, _, err := unix.Accept4(int(p.fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err == unix.ECONNABORTED || err == unix.EINTR {
			continue
		}
		if err != nil { // none left, or a Pause came between
			scarce(err)
			return
		}
		// It has the option from the listening socket already, unless it came
		// between the first listen and that (see bind_linux.go).
		setReuse(fd, 1)
		f := os.NewFile(uintptr(fd), "tcp")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
		n := &connection{client: c.(*net.TCPConn), cancel: cancel}
		if !s.conns.add(n) {
			cancel()
			n.abort()
			continue
		}
		go s.proxy(ctx, n, p.want.Container)
	}
}

// proxy dials the container and copies until both directions have ended.
func (s *server) proxy(ctx context.Context, n *connection, container uint16) {
	defer s.conns.remove(n)
	defer n.cancel()
	target := s.dial(ctx, n.client, container)
	if target == nil || !s.conns.connected(n, target) {
		n.abort() // as the container itself would refuse
		return
	}
	n.cancel()
	n.client.SetKeepAlive(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.copy(n.client, n.target)
	}()
	n.copy(n.target, n.client)
	<-done
	n.client.Close()
	n.target.Close()
}

// copy passes one direction on, and its end. Between two TCP connections
// io.Copy moves the data in the kernel.
func (n *connection) copy(dst, src *net.TCPConn) {
	if _, err := io.Copy(dst, src); err != nil {
		n.abort() // one end is gone: the other must not take this for an orderly end
		return
	}
	dst.CloseWrite()
}

// abort resets both connections.
func (n *connection) abort() {
	for _, c := range []*net.TCPConn{n.client, n.target} {
		if c != nil {
			c.SetLinger(0)
			c.Close()
		}
	}
}

// dial connects to the first target that accepts, those of the client's family
// first; nil if there is none.
func (s *server) dial(ctx context.Context, client *net.TCPConn, container uint16) *net.TCPConn {
	targets := (*s.targets.Load())(container, "tcp")
	remote, _ := client.RemoteAddr().(*net.TCPAddr)
	is4 := remote != nil && remote.IP.To4() != nil
	var d net.Dialer
	for _, same := range []bool{true, false} {
		for _, t := range targets {
			if t.Addr().Unmap().Is4() == is4 != same {
				continue
			}
			if c, err := d.DialTCP(ctx, "tcp", netip.AddrPort{}, t); err == nil {
				return c
			}
		}
	}
	return nil
}
