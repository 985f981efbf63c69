package dns

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxFlights bounds the queries that wait for an answer by UDP; more fail
	// at once.
	maxFlights = 1024

	// sockets is the most for each upstream server. A few are as fast as one
	// for each query is slow, and random ones of several are harder to guess.
	sockets = 4

	// socketIdle is after how long without a query upstream sockets are closed.
	socketIdle = 30 * time.Second

	// shunned is for how long a server that did not answer is asked last.
	shunned = 30 * time.Second
)

// forwarder passes queries on, byte for byte but for their id.
type forwarder struct {
	plan
	server *Server

	mu     sync.Mutex
	links  [][]*link   // for each server
	down   []time.Time // for each server: until when it is asked last
	turn   int         // of rotate
	open   int         // flights
	idle   *time.Timer
	wait   sync.WaitGroup
	closed bool
}

// link is a connected UDP socket.
type link struct {
	index   int // of the server
	conn    net.Conn
	flights map[uint16]*flight // nil: closed
	used    time.Time
	heard   time.Time // when the last answer came
}

// flight is a query that waits for its answer. It is in one link at a time.
type flight struct {
	client  netip.AddrPort
	msg     []byte // with the client's id
	route   route
	link    *link
	id      uint16 // in link
	timer   *time.Timer
	due     time.Time // when timer goes off
	refusal []byte    // an answer that will do if there is no better one
}

// query begins to pass a query on. What it returns is an answer to give at once.
func (f *forwarder) query(w *worker, msg []byte, from netip.AddrPort) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	if f.open >= maxFlights {
		w.out = w.q.fail(w.out, rcodeServfail)
		return w.out
	}
	l := &flight{client: from, msg: bytes.Clone(msg)}
	f.open++
	l.timer = time.AfterFunc(time.Hour, func() { f.expire(l) })
	f.send(l)
	return nil
}

// route is the way of a query through the servers.
type route struct {
	turn   int    // of the first server to try
	tries  int    // made
	asked  uint32 // servers of this round, by bit
	begun  bool
	server int // of the last try
}

// next chooses the server of the next try, false if there is none left. Each
// round asks every server once: those that answered last time come first.
func (f *forwarder) next(r *route) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nextLocked(r)
}

func (f *forwarder) nextLocked(r *route) bool {
	n := len(f.servers)
	if f.links == nil {
		f.links, f.down = make([][]*link, n), make([]time.Time, n)
	}
	if !r.begun {
		r.begun = true
		if f.rotate {
			f.turn++
		}
		r.turn = f.turn
	}
	if r.tries == f.attempts*n {
		return false
	}
	if r.tries%n == 0 {
		r.asked = 0
	}
	r.tries++
	now := time.Now()
	for _, healthy := range []bool{true, false} {
		for k := range n {
			i := (r.turn + k) % n
			if r.asked&(1<<i) == 0 && now.After(f.down[i]) == healthy {
				r.asked |= 1 << i
				r.server = i
				return true
			}
		}
	}
	return false
}

func (f *forwarder) mark(i int, answers bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.markLocked(i, answers)
}

func (f *forwarder) markLocked(i int, answers bool) {
	if answers {
		f.down[i] = time.Time{}
	} else {
		f.down[i] = time.Now().Add(shunned)
	}
}

// send makes the next tries until one is on its way, or answers the client.
// f.mu is held.
func (f *forwarder) send(l *flight) {
	for f.nextLocked(&l.route) {
		i := l.route.server
		k, err := f.link(i)
		if err == nil {
			l.id = k.id()
			msg := l.msg
			own := binary.BigEndian.Uint16(msg)
			binary.BigEndian.PutUint16(msg, l.id)
			_, err = k.conn.Write(msg)
			binary.BigEndian.PutUint16(msg, own)
		}
		if err != nil {
			f.markLocked(i, false)
			continue
		}
		l.link, k.flights[l.id] = k, l
		k.used = time.Now()
		l.due = k.used.Add(f.timeout)
		l.timer.Reset(f.timeout)
		return
	}
	f.land(l)
	if l.refusal != nil {
		f.reply(l, l.refusal)
		return
	}
	var q query
	if rcode, ok := q.parse(l.msg); ok && rcode == 0 {
		f.reply(l, q.fail(nil, rcodeServfail))
	}
}

// reply sends an answer to the client, under the client's id.
func (f *forwarder) reply(l *flight, msg []byte) {
	copy(msg, l.msg[:2])
	f.server.udp.WriteToUDPAddrPort(msg, l.client)
}

// land ends a flight. f.mu is held.
func (f *forwarder) land(l *flight) {
	l.timer.Stop()
	f.leave(l)
	f.open--
}

func (f *forwarder) leave(l *flight) {
	if l.link != nil {
		delete(l.link.flights, l.id)
		l.link = nil
	}
}

// expire goes on to the next server.
func (f *forwarder) expire(l *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || l.link == nil || time.Now().Before(l.due) { // answered or moved on in this moment
		return
	}
	k := l.link
	if k.heard.After(l.due.Add(-f.timeout)) { // the server is there, only slow with this name
		f.leave(l)
		f.send(l)
		return
	}
	f.markLocked(k.index, false)
	f.retire(k)
}

// retire closes a link and sends its flights anew. A socket keeps the source
// address that it was connected with, which may be of an interface that is gone.
func (f *forwarder) retire(k *link) {
	f.links[k.index] = slices.DeleteFunc(f.links[k.index], func(o *link) bool { return o == k })
	all := k.flights
	k.close()
	f.resend(all)
}

func (f *forwarder) resend(all map[uint16]*flight) {
	for _, l := range all {
		l.link = nil
		l.timer.Stop()
		f.send(l)
	}
}

// reset begins anew after the networks of the container have changed.
func (f *forwarder) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	clear(f.down)
	old := slices.Concat(f.links...)
	clear(f.links) // before anything is sent anew
	for _, k := range old {
		all := k.flights
		k.close()
		f.resend(all)
	}
}

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

// sweep closes the sockets that were not used for a while.
func (f *forwarder) sweep() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	left := 0
	for i, links := range f.links {
		keep := links[:0]
		for _, k := range links {
			if len(k.flights) > 0 || time.Since(k.used) < socketIdle {
				keep = append(keep, k)
			} else {
				k.close()
			}
		}
		clear(links[len(keep):])
		f.links[i] = keep
		left += len(keep)
	}
	if left > 0 {
		f.idle.Reset(socketIdle)
	} else {
		f.idle = nil
	}
}

func (k *link) close() {
	k.flights = nil
	k.conn.Close()
}

// close ends all flights without an answer and waits for the readers.
func (f *forwarder) close() {
	f.mu.Lock()
	f.closed = true
	if f.idle != nil {
		f.idle.Stop()
	}
	for _, links := range f.links {
		for _, k := range links {
			for _, l := range k.flights {
				l.timer.Stop()
			}
			k.close()
		}
	}
	f.links = nil
	f.mu.Unlock()
	f.wait.Wait()
}
