package dns

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxConns bounds the TCP clients of a container; those above it are closed.
	maxConns = 64

	// connIdle is how long a TCP client may be silent.
	connIdle = 10 * time.Second
)

func (s *Server) serveTCP() {
	for {
		c, err := s.tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no descriptor is left
			select {
			case <-s.ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
			continue
		}
		if !s.add(c) {
			c.Close()
			continue
		}
		s.wait.Go(func() {
			defer s.remove(c)
			defer survive()
			s.client(c)
		})
	}
}

func (s *Server) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil || len(s.conns) >= maxConns {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) remove(c net.Conn) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// client answers the queries of one connection in order.
func (s *Server) client(c net.Conn) {
	var w worker
	var in []byte
	for {
		c.SetDeadline(time.Now().Add(connIdle))
		var err error
		if in, err = readMessage(c, in); err != nil {
			return
		}
		out, forward := s.respond(&w, in, true)
		if forward {
			out = s.up.stream(&w, in)
		}
		if len(out) == 0 {
			return
		}
		c.SetDeadline(time.Now().Add(connIdle))
		if writeMessage(c, out) != nil {
			return
		}
	}
}

// readMessage reads a message with its length, into buf if it is big enough.
func readMessage(c net.Conn, buf []byte) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return buf, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	_, err := io.ReadFull(c, buf[:n])
	return buf[:n], err
}

func writeMessage(c net.Conn, msg []byte) error {
	buf := make([]byte, 0, 2+len(msg))
	buf = binary.BigEndian.AppendUint16(buf, uint16(len(msg)))
	_, err := c.Write(append(buf, msg...)) // at once: some clients want it in one segment
	return err
}

// stream asks upstream by TCP, for a client that came by TCP.
func (f *forwarder) stream(w *worker, msg []byte) []byte {
	var refusal []byte
	var r route
	for f.next(&r) {
		i := r.server
		reply, err := f.exchange(f.servers[i], msg)
		switch {
		case f.server.ctx.Err() != nil:
			return nil
		case err != nil:
			f.mark(i, false)
			continue
		}
		f.mark(i, true)
		if !refuses(reply) {
			return reply
		}
		refusal = reply
	}
	if refusal != nil {
		return refusal
	}
	w.out = w.q.fail(w.out, rcodeServfail)
	return w.out
}

func (f *forwarder) exchange(s server, msg []byte) ([]byte, error) {
	c, err := dial(f.server.ctx, int(f.server.ns.Fd()), s, unix.SOCK_STREAM, f.timeout)
	if err != nil {
		return nil, err
	}
	if !f.server.track(c) {
		c.Close()
		return nil, net.ErrClosed
	}
	defer f.server.remove(c)
	c.SetDeadline(time.Now().Add(f.timeout))
	if err := writeMessage(c, msg); err != nil {
		return nil, err
	}
	reply, err := readMessage(c, nil)
	if err == nil && (len(reply) < headerSize || reply[0] != msg[0] || reply[1] != msg[1] || !answers(reply, msg)) {
		return nil, errors.New("the name server answered another question")
	}
	return reply, err
}

// track has Close end c.
func (s *Server) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}
