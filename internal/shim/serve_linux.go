package shim

import (
	"os"
	"sync"
	"syscall"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/runtime"
	"github.com/amphora-go/amphora/internal/wire"
	"golang.org/x/sys/unix"
)

// Build names this version in messages about protocols that do not match.
const Build = "amphora 0.1"

var hello = wire.Hello{Protocol: wire.Protocol, Minimum: wire.Minimum, Build: Build}

func stateError(status record.Status) error {
	switch status {
	case record.Running:
		return fault.ErrRunning
	case record.Paused:
		return fault.ErrPaused
	}
	return fault.ErrNotRunning
}

// serve answers programs until the container has ended.
func (s *shim) serve() {
	for {
		conn, err := s.socket.Accept()
		if err != nil {
			return
		}
		go s.handle(conn)
	}
}

func (s *shim) handle(conn *wire.Conn) {
	defer conn.Close()
	if conn.Send(Reply{Hello: &hello}) != nil {
		return
	}
	for {
		var req Request
		files, err := conn.Receive(&req)
		if err != nil {
			return
		}
		if req.Hello != nil {
			if err := req.Hello.Check(); err != nil {
				wire.CloseAll(files)
				conn.Send(Reply{Error: wire.Pack(err)})
				return
			}
		}
		switch req.Op {
		case opExec:
			s.handleExec(conn, &req, files)
			return
		case opAttach:
			s.handleAttach(conn, &req, files)
			return
		case opHold:
			wire.CloseAll(files)
			s.handleHold(conn)
			return
		case opOwn:
			s.handleOwn(conn, files)
		default:
			wire.CloseAll(files)
			s.simple(conn, &req)
		}
	}
}

// simple answers requests that bring no descriptors.
func (s *shim) simple(conn *wire.Conn, req *Request) {
	var r Reply
	var files []*os.File
	var err error
	switch req.Op {
	case opState:
		r.Run = s.snapshot()
	case opWait:
		s.await(conn, req.Until)
		return
	case opStop:
		go s.stopContainer(req.Signal, req.Timeout, true)
		s.await(conn, "exit")
		return
	case opSignal:
		err = s.signal(req.Signal)
	case opPause:
		err = s.pause()
	case opResume:
		err = s.resume()
	case opResize:
		if io := s.streamsNow(); io != nil {
			err = io.resize(req.Width, req.Height)
		}
	case opPids:
		err = s.withBox(func(b *runtime.Container) (e error) { r.Pids, e = b.Pids(); return e })
	case opConnect:
		err = s.connect(req.Endpoint)
	case opUpdate:
		err = s.update(req.Update)
	case opDisconnect:
		err = s.disconnect(req.Network)
	case opRoot, opTree, opBase, opNetNS, opDial:
		files, err = s.descriptor(req)
	case opKeep, opDiscard:
		s.mu.Lock()
		s.c.AutoRemove = req.Op == opDiscard
		s.mu.Unlock()
	default:
		err = fault.Unsupported("this container's supervisor (%s) does not know the operation %q: it is older than this program", Build, req.Op)
	}
	r.Error = wire.Pack(err)
	conn.Send(r, files...)
	wire.CloseAll(files)
}

func (s *shim) snapshot() *record.Run {
	s.mu.Lock()
	defer s.mu.Unlock()
	run := *s.run
	return &run
}

func (s *shim) streamsNow() *stdio {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stdio
}

func (s *shim) withBox(f func(*runtime.Container) error) error {
	s.mu.Lock()
	box := s.box
	s.mu.Unlock()
	if box == nil {
		return fault.ErrNotRunning
	}
	return f(box)
}

// await answers when the container has ended, or was removed.
func (s *shim) await(conn *wire.Conn, until string) {
	s.answers.Add(1)
	defer s.answers.Done()
	gone := make(chan struct{})
	go func() { // the client gives up by closing
		defer close(gone)
		var req Request
		conn.Receive(&req)
	}()
	select {
	case <-s.ended:
	case <-gone:
		return
	}
	if until == "removed" {
		select {
		case <-s.removed:
		case <-gone:
			return
		}
	}
	s.mu.Lock()
	exit := s.exit
	s.mu.Unlock()
	conn.Send(Reply{Exit: exit})
}

// signal goes to the container's first process. SIGKILL ends all of it, and
// like Docker's kill it counts as a stop; so does the container's own stop
// signal: policies do not start it again.
func (s *shim) signal(sig int) error {
	s.mu.Lock()
	running := s.init
	s.mu.Unlock()
	switch sig {
	case int(unix.SIGKILL):
		s.markStopped()
		s.kill()
		return nil
	case s.c.Stop.Signal:
		s.markStopped()
		s.mu.Lock()
		if !s.stop {
			s.stop = true
			close(s.stopping)
		}
		s.mu.Unlock()
		if running == nil {
			return nil // it waits to be started again, and now will not be
		}
	}
	if running == nil {
		return fault.ErrNotRunning
	}
	return running.Signal(syscall.Signal(sig))
}

func (s *shim) handleOwn(conn *wire.Conn, files []*os.File) {
	if len(files) != 2 {
		wire.CloseAll(files)
		conn.Send(Reply{Error: wire.Pack(fault.Invalid("an owner is a pipe and a pidfd"))})
		return
	}
	o, err := newOwner(files[0], files[1])
	if err == nil {
		s.mu.Lock()
		s.owners++
		s.mu.Unlock()
		go s.watchOwner(o)
	}
	conn.Send(Reply{Error: wire.Pack(err)})
}

// clientPipes sorts the pipes of a request into stdin, stdout, stderr and
// refuses everything that is no pipe.
func clientPipes(st Streams, files []*os.File) ([]*os.File, error) {
	if len(files) != st.count() {
		return nil, fault.Invalid("the request announces %d streams and brings %d", st.count(), len(files))
	}
	out := make([]*os.File, 3)
	for i, want := range []bool{st.Stdin, st.Stdout, st.Stderr} {
		if !want {
			continue
		}
		if err := wire.IsPipe(files[0]); err != nil {
			return nil, err
		}
		out[i], files = files[0], files[1:]
	}
	return out, nil
}

// handleAttach joins a client to the container's streams. Its output pipes
// hold 1 MiB; a client that falls further behind is closed, not the container
// held up.
func (s *shim) handleAttach(conn *wire.Conn, req *Request, files []*os.File) {
	pipes, err := clientPipes(req.Streams, files)
	io := s.streamsNow()
	if err == nil && io == nil {
		err = fault.ErrNotRunning
	}
	if err != nil {
		wire.CloseAll(files)
		conn.Send(Reply{Error: wire.Pack(err)})
		return
	}
	s.answers.Add(1)
	defer s.answers.Done()
	a := &viewer{over: make(chan struct{})}
	for _, p := range pipes[1:] {
		if p != nil {
			a.open++
		}
	}
	input := a.open == 0 // stdin alone: until the client or the container goes
	in, sinks, err := io.connect(pipes, false, a.closed)
	defer func() {
		for _, k := range sinks {
			io.stdout.drop(k, "end")
			io.stderr.drop(k, "end")
		}
	}()
	if in != nil {
		go io.feed(in)
	}
	conn.Send(Reply{Error: wire.Pack(err)})
	if err != nil {
		return
	}
	if input {
		go func() { <-io.done; a.closed("end") }()
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			var req Request
			more, err := conn.Receive(&req)
			if err != nil {
				return
			}
			wire.CloseAll(more)
			if req.Op == opResize {
				io.resize(req.Width, req.Height)
			}
		}
	}()
	select {
	case <-a.over:
		conn.Send(Reply{Closed: a.reason})
	case <-gone:
	}
}

// viewer is an attached client. It is over when all its output pipes are closed, or one was too slow.
type viewer struct {
	mu     sync.Mutex // guards open and reason
	open   int
	reason string
	over   chan struct{} // after that reason does not change
}

func (a *viewer) closed(reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open--
	if a.reason == "" && (reason == "slow" || a.open <= 0) {
		a.reason = reason
		close(a.over)
	}
}
