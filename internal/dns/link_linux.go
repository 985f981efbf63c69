package dns

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// id is one that no flight of the link has.
func (k *link) id() uint16 {
	for {
		id := uint16(rand.Uint32())
		if k.flights[id] == nil {
			return id
		}
	}
}

// link returns one of the sockets to a server, made if need be.
func (f *forwarder) link(i int) (*link, error) {
	n := rand.IntN(sockets)
	if n < len(f.links[i]) {
		return f.links[i][n], nil
	}
	conn, err := dial(f.server.ctx, int(f.server.ns.Fd()), f.servers[i], unix.SOCK_DGRAM, 0)
	if err != nil {
		if len(f.links[i]) > 0 { // out of descriptors, perhaps
			return f.links[i][0], nil
		}
		return nil, err
	}
	k := &link{index: i, conn: conn, flights: make(map[uint16]*flight), used: time.Now()}
	f.links[i] = append(f.links[i], k)
	f.wait.Go(func() { f.receive(k) })
	if f.idle == nil {
		f.idle = time.AfterFunc(socketIdle, f.sweep)
	}
	return k, nil
}

// receive reads what comes by a link until it is closed.
func (f *forwarder) receive(k *link) {
	conn := k.conn.(*net.UDPConn)
	buf := make([]byte, maxUDPSize)
	for {
		n, _, flags, _, err := conn.ReadMsgUDPAddrPort(buf, nil)
		f.mu.Lock()
		closed := k.flights == nil
		if err != nil && !closed {
			f.refused(k)
		}
		f.mu.Unlock()
		switch {
		case closed:
			return
		case err == nil && n >= headerSize:
			f.arrived(k, buf[:n], flags&unix.MSG_TRUNC != 0)
		}
	}
}

// refused moves all flights of a link on: nobody listens at the server.
func (f *forwarder) refused(k *link) {
	f.markLocked(k.index, false)
	all := k.flights
	k.flights = make(map[uint16]*flight)
	f.resend(all)
}

// arrived gives an answer to its client.
func (f *forwarder) arrived(k *link, msg []byte, cut bool) {
	defer survive()
	f.mu.Lock()
	defer f.mu.Unlock()
	l := k.flights[binary.BigEndian.Uint16(msg)]
	if f.closed || l == nil || !answers(msg, l.msg) {
		return
	}
	f.markLocked(k.index, true)
	k.heard = time.Now()
	if refuses(msg) && len(f.servers) > 1 && l.route.tries < f.attempts*len(f.servers) {
		l.refusal = bytes.Clone(msg)
		l.timer.Stop()
		f.leave(l)
		f.send(l)
		return
	}
	f.land(l)
	if cut {
		var q query
		if _, ok := q.parse(l.msg); ok {
			msg = truncate(msg, q.end)
		}
	}
	f.reply(l, msg)
}

// answers reports whether a reply is one, to this query: the question must be
// the same but for the case of letters. Errors may come without a question.
func answers(reply, msg []byte) bool {
	flags := binary.BigEndian.Uint16(reply[2:])
	if flags&flagResponse == 0 {
		return false
	}
	if binary.BigEndian.Uint16(reply[4:]) == 0 {
		return flags&maskRcode != 0
	}
	var q, r query
	if rcode, ok := q.parse(msg); !ok || rcode != 0 || len(reply) < q.end || binary.BigEndian.Uint16(reply[4:]) != 1 {
		return false
	}
	r.msg = reply
	end := r.readName(headerSize)
	return end+4 == q.end && bytes.Equal(r.name, q.name) && bytes.Equal(reply[end:q.end], msg[end:q.end])
}

// refuses reports whether another server may do better.
func refuses(reply []byte) bool {
	switch reply[3] & maskRcode {
	case rcodeServfail, rcodeNotImpl, rcodeRefused:
		return true
	}
	return false
}
