package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/nft"
	"golang.org/x/sys/unix"
)

// Server answers one container. Its methods are safe for concurrent use.
type Server struct {
	udp     *net.UDPConn
	tcp     *net.TCPListener
	ns      *os.File // of the container; an open socket in it pins it anyway
	zone    zone
	forward atomic.Bool // a network of the container forwards
	up      forwarder

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wait   sync.WaitGroup
	once   sync.Once

	mu    sync.Mutex
	conns map[net.Conn]struct{} // TCP clients
}

// redirect is replaced in tests of machines without nftables.
type redirect func(netns int, server netip.Addr, udp, tcp uint16) error

// Listen starts a server in a network namespace whose loopback interface is up.
// It takes random ports of 127.0.0.11, to which the namespace's port 53 of that
// address is translated: the container can use all of port 53 itself. ns stays
// the caller's. Close the server before waiting for the namespace to go.
func Listen(ns *os.File, c *Config) (*Server, error) { return listen(ns, c, nft.RedirectDNS) }

func listen(ns *os.File, c *Config, lead redirect) (*Server, error) {
	p, err := c.Upstream.parse()
	if err != nil {
		return nil, err
	}
	fd, err := unix.FcntlInt(ns.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fault.Opaque(os.NewSyscallError("fcntl", err))
	}
	s := &Server{ns: os.NewFile(uintptr(fd), "netns"), zone: zone{state: c.State, inotify: -1}}
	s.udp, s.tcp, err = listenAt(fd)
	if err != nil {
		s.ns.Close()
		return nil, fault.Opaque(fmt.Errorf("resolver at %s: %w", self(), err))
	}
	err = lead(fd, self(), uint16(s.udp.LocalAddr().(*net.UDPAddr).Port), uint16(s.tcp.Addr().(*net.TCPAddr).Port))
	if err != nil {
		s.udp.Close()
		s.tcp.Close()
		s.ns.Close()
		return nil, fault.Opaque(fmt.Errorf("lead port 53 of %s in the container's namespace to the resolver (needs nf_tables with nat): %w", self(), err))
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.conns = make(map[net.Conn]struct{})
	s.up = forwarder{plan: p, server: s}
	s.SetNetworks(c.Networks)
	s.wait.Go(s.serveUDP)
	s.wait.Go(s.serveTCP)
	return s, nil
}

// SetNetworks replaces the container's networks, after Connect and Disconnect.
func (s *Server) SetNetworks(networks []Network) {
	s.zone.set(networks)
	forward := false
	for _, n := range networks {
		forward = forward || n.Forward
	}
	s.forward.Store(forward)
	s.up.reset()
}

// Close ends the server and returns when none of its sockets is left. It is
// idempotent. The translation rules end with the namespace.
func (s *Server) Close() error {
	var err error
	s.once.Do(func() {
		s.cancel()
		err = errors.Join(s.udp.Close(), s.tcp.Close())
		s.mu.Lock()
		for c := range s.conns {
			c.Close()
		}
		s.conns = nil
		s.mu.Unlock()
		s.up.close()
		s.wait.Wait()
		s.zone.close()
		err = errors.Join(err, s.ns.Close())
	})
	return fault.Opaque(err)
}

// worker is what one goroutine needs to answer queries without allocating.
type worker struct {
	q     query
	out   []byte
	addrs []netip.Addr
	data  []byte
}

// serveUDP answers the queries that come by UDP, one after the other: a query
// for a local name takes microseconds, one that is passed on does not wait.
func (s *Server) serveUDP() {
	in := make([]byte, maxUDPSize)
	var w worker
	for {
		n, from, err := s.udp.ReadFromUDPAddrPort(in)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n == len(in) { // the latter has been cut
			continue
		}
		s.datagram(&w, in[:n], from)
	}
}

func (s *Server) datagram(w *worker, msg []byte, from netip.AddrPort) {
	defer survive()
	out, forward := s.respond(w, msg, false)
	if forward {
		out = s.up.query(w, msg, from)
	}
	if len(out) > 0 {
		s.udp.WriteToUDPAddrPort(out, from)
	}
}

// survive is deferred around everything that handles what a client or a name
// server sent: no message may end the supervisor, whatever mistake is in here.
// The one message goes unanswered.
func survive() { recover() }

// respond answers a message, or says that upstream must. An empty answer is
// none.
func (s *Server) respond(w *worker, msg []byte, tcp bool) (out []byte, forward bool) {
	rcode, ok := w.q.parse(msg)
	if !ok {
		return nil, false
	}
	if rcode != 0 {
		w.out = w.q.fail(w.out, rcode)
		return w.out, false
	}
	limit := w.q.size
	if tcp {
		limit = maxTCPSize
	}
	if w.q.class == classIN && s.local(w, limit) {
		return w.out, false
	}
	if !s.forward.Load() {
		w.out = w.q.fail(w.out, rcodeNoName)
		return w.out, false
	}
	if len(s.up.servers) == 0 {
		w.out = w.q.fail(w.out, rcodeServfail)
		return w.out, false
	}
	return nil, true
}

// cut says in the answer that it is not all.
func (w *worker) cut() {
	binary.BigEndian.PutUint16(w.out[2:], binary.BigEndian.Uint16(w.out[2:])|flagTruncated)
}

// local answers what is known of the container's networks, and reports whether
// it is.
func (s *Server) local(w *worker, limit int) bool {
	q := &w.q
	now := time.Now()
	if q.qtype == typePTR {
		if addr, ok := reverse(q.name); ok {
			name, ok := s.zone.pointer(addr, now)
			if !ok {
				return false
			}
			w.out = q.begin(w.out, 0, flagAuthority)
			w.data = appendName(w.data[:0], name)
			switch {
			case w.data == nil: // too long together with its network
			case q.fits(w.out, len(w.data), limit):
				w.out = q.answer(w.out, typePTR, w.data)
			default:
				w.cut()
			}
			w.out = q.finish(w.out)
			return true
		}
	}
	addrs, known, turn := s.zone.addresses(q.name, q.qtype, now, w.addrs[:0])
	w.addrs = addrs
	if !known {
		return false
	}
	if q.edns && q.ednsVersion != 0 {
		w.out = q.fail(w.out, rcodeBadVers)
		return true
	}
	w.out = q.begin(w.out, 0, flagAuthority)
	for i := range addrs {
		a := addrs[(i+turn)%len(addrs)]
		rtype := uint16(typeA)
		if a.Is4() {
			v := a.As4()
			w.data = append(w.data[:0], v[:]...)
		} else {
			rtype = typeAAAA
			v := a.As16()
			w.data = append(w.data[:0], v[:]...)
		}
		if !q.fits(w.out, len(w.data), limit) {
			// Those that fit are sent all the same: some clients have no TCP.
			w.cut()
			break
		}
		w.out = q.answer(w.out, rtype, w.data)
	}
	w.out = q.finish(w.out)
	return true
}
