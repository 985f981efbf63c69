package dns

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
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
