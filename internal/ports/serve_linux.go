package ports

import (
	"errors"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
	"golang.org/x/sys/unix"
)

// server copies what arrives at the held sockets. One goroutine waits for all
// of them and does all of UDP; a TCP connection has two of its own while it
// lasts.
type server struct {
	held    *Held
	epoll   *os.File
	raw     syscall.RawConn
	targets atomic.Pointer[Targets]
	done    chan struct{} // closed when the loop has ended

	udp udp // of the loop alone

	conns connections
}

// Serve makes the TCP sockets listen and the UDP sockets receive, and copies
// to what targets says. Called again it changes the targets; after Pause it
// resumes. A port whose target list is empty refuses.
//
// The targets are dialled from the namespace of the process, which must be the
// one that Hold was called in.
func (h *Held) Serve(targets Targets) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fault.Opaque(fs.ErrClosed)
	}
	if h.server == nil {
		s, err := newServer(h)
		if err != nil {
			return err
		}
		h.server = s
	}
	h.server.targets.Store(&targets)
	h.server.udp.generation.Add(1)
	for i := range h.ports {
		if err := h.server.start(i); err != nil {
			return errors.Join(err, h.pause())
		}
	}
	return nil
}

// Pause makes TCP sockets stop listening, so that clients are refused, and UDP
// sockets drop what arrives; all stay reserved. Connections that are there go
// on: they end with the processes at their other end.
func (h *Held) Pause() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fault.Opaque(fs.ErrClosed)
	}
	return h.pause()
}

func (h *Held) pause() error {
	var errs error
	for i := range h.ports {
		if p := &h.ports[i]; p.ready {
			errs = errors.Join(errs, h.server.stop(p))
		}
	}
	return errs
}

func newServer(h *Held) (*server, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(fd, true) // or os.File would not use its poller
	}
	if err != nil {
		return nil, fault.Opaque(os.NewSyscallError("epoll_create1", err))
	}
	s := &server{held: h, epoll: os.NewFile(uintptr(fd), "ports"), done: make(chan struct{})}
	if s.raw, err = s.epoll.SyscallConn(); err != nil {
		s.epoll.Close()
		return nil, fault.Opaque(err)
	}
	s.conns.open = make(map[*connection]struct{})
	go s.loop()
	return s, nil
}

// close ends the loop and all connections. Held.mu is held.
func (s *server) close() {
	s.epoll.Close()
	<-s.done
	s.conns.close()
}

// start serves one port, if it is held and not served yet.
func (s *server) start(i int) error {
	p := &s.held.ports[i]
	if p.fd < 0 || p.ready || p.want.Protocol == "sctp" {
		return nil
	}
	fd := int(p.fd)
	var err error
	if p.want.Protocol == "tcp" {
		err = listen(fd)
	} else {
		err = receive(fd)
	}
	if err == nil {
		err = s.watch(fd, int32(i), heldSocket)
		if err != nil && p.want.Protocol == "tcp" {
			unlisten(fd)
		}
	}
	if err != nil {
		return fault.Opaque(errors.Join(errors.New("serve port "+name(p.want.Protocol, p.want.Host, p.number)), err))
	}
	p.ready = true
	return nil
}

func (s *server) stop(p *port) error {
	p.ready = false
	s.control(unix.EPOLL_CTL_DEL, int(p.fd), nil)
	if p.want.Protocol == "tcp" {
		return fault.Opaque(unlisten(int(p.fd)))
	}
	return fault.Opaque(discard(int(p.fd)))
}

// Kinds of sockets in epoll, in the second half of an event's data.
const (
	heldSocket   = 0 // the first half is an index into Held.ports
	clientSocket = 1 // the first half is the descriptor of an udpClient
)

func (s *server) watch(fd int, id, kind int32) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: id, Pad: kind}
	return s.control(unix.EPOLL_CTL_ADD, fd, &ev)
}

func (s *server) control(op, fd int, ev *unix.EpollEvent) error {
	var err error
	if e := s.raw.Control(func(ep uintptr) { err = unix.EpollCtl(int(ep), op, fd, ev) }); e != nil {
		return e
	}
	return os.NewSyscallError("epoll_ctl", err)
}

// loop waits in Go's poller for the epoll descriptor to become readable, which
// it is whenever one of its sockets is.
func (s *server) loop() {
	defer close(s.done)
	defer s.udp.close()
	var events [16]unix.EpollEvent
	for {
		n := 0
		err := s.raw.Read(func(ep uintptr) bool {
			var err error
			n, err = unix.EpollWait(int(ep), events[:], 0)
			return n > 0 || err != nil && err != unix.EINTR
		})
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
		case err != nil:
			return // closed
		}
		for _, ev := range events[:max(n, 0)] {
			s.handle(ev)
		}
		s.epoll.SetReadDeadline(s.udp.expire(time.Now()))
	}
}

func (s *server) handle(ev unix.EpollEvent) {
	if ev.Pad == clientSocket {
		s.udp.answer(s, ev.Fd)
		return
	}
	p := &s.held.ports[ev.Fd] // the fields used from here on do not change before Close
	if p.want.Protocol == "tcp" {
		s.accept(p)
	} else {
		s.udp.receive(s, ev.Fd, p)
	}
}

// scarce waits a little when descriptors have run out: the connection stays in
// the queue, and the socket readable.
func scarce(err error) bool {
	switch err {
	case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
		time.Sleep(20 * time.Millisecond)
		return true
	}
	return false
}

// perEvent guards against more work for one event than is fair to other sockets.
const perEvent = 64
