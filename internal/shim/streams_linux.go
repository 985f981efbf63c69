package shim

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/amphora-go/amphora/internal/logs"
	"golang.org/x/sys/unix"
)

// pipeSize is what the pipes between container, shim and clients hold: the
// most that an unprivileged process may ask for.
const pipeSize = 1 << 20

// sink is one reader of the container's output, at the other end of a pipe
// that its client made.
type sink struct {
	f        *os.File
	lossless bool                // wait for the reader; else drop it when its pipe is full
	closed   func(reason string) // called once, may be nil
}

// fanout copies one output stream to the log and to every sink.
type fanout struct {
	name  logs.Stream
	log   func(stream logs.Stream, p []byte, t time.Time)
	flush func(t time.Time) // writes an unfinished line to the log

	mu    sync.Mutex // guards sinks and ended
	sinks []*sink
	ended bool
}

func (o *fanout) add(s *sink) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		s.close("end")
		return
	}
	o.sinks = append(o.sinks, s)
}

func (s *sink) close(reason string) {
	s.f.Close()
	if s.closed != nil {
		s.closed(reason)
	}
}

// pump reads until the last writer is gone. One read, one timestamp, one
// write to the log. The buffer starts small, since most containers are quiet,
// and grows with what the pipe delivers.
func (o *fanout) pump(r *os.File, busy func(bool)) {
	buf := make([]byte, 4<<10)
	waiting := false // for the rest of a line
	for {
		n, err := r.Read(buf)
		if n > 0 {
			busy(true)
			o.write(buf[:n])
			busy(false)
			if unfinished := buf[n-1] != '\n'; unfinished != waiting {
				waiting = unfinished
				o.await(r, waiting)
			} else if waiting {
				o.await(r, true)
			}
			if n == len(buf) && n < 256<<10 {
				buf = make([]byte, 4*n)
			}
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			o.flush(time.Now())
			waiting = false
			o.await(r, false)
		case err != nil:
			return // EOF, EIO of a terminal whose last user is gone, or closed by us
		}
	}
}

// idle is how long an unfinished line, such as a prompt, waits for its rest
// before the log gets it as it is.
const idle = 250 * time.Millisecond

func (o *fanout) await(r *os.File, on bool) {
	var t time.Time
	if on {
		t = time.Now().Add(idle)
	}
	r.SetReadDeadline(t)
}

func (o *fanout) write(p []byte) {
	o.log(o.name, p, time.Now())
	o.mu.Lock()
	sinks := o.sinks
	o.mu.Unlock()
	for _, s := range sinks {
		if reason := s.write(p); reason != "" {
			o.drop(s, reason)
		}
	}
}

// drop takes a sink out and closes it, unless that was done already.
func (o *fanout) drop(s *sink, reason string) {
	o.mu.Lock()
	kept := make([]*sink, 0, len(o.sinks))
	for _, k := range o.sinks {
		if k != s {
			kept = append(kept, k)
		}
	}
	found := len(kept) < len(o.sinks)
	o.sinks = kept
	o.mu.Unlock()
	if found {
		s.close(reason)
	}
}

// write returns why the sink must go, or "".
func (s *sink) write(p []byte) string {
	var err error
	n := 0
	if s.lossless {
		n, err = s.f.Write(p)
	} else if rc, rerr := s.f.SyscallConn(); rerr != nil {
		err = rerr
	} else {
		// What the pipe takes at once. A deadline in the past would not even try.
		err = rc.Write(func(fd uintptr) bool {
			n, _ = unix.Write(int(fd), p)
			return true
		})
		if err == nil && n < 0 {
			n = 0
		}
	}
	switch {
	case err != nil:
		return "end"
	case n < len(p):
		return "slow"
	}
	return ""
}

// end closes every sink: there is no more output.
func (o *fanout) end() {
	o.mu.Lock()
	sinks := o.sinks
	o.sinks, o.ended = nil, true
	o.mu.Unlock()
	for _, s := range sinks {
		s.close("end")
	}
}

// stdio is the three streams of one process, on pipes or on a terminal.
type stdio struct {
	stdout, stderr *fanout // the same one on a terminal

	mu     sync.Mutex
	stdin  *os.File // our end: pipe or terminal; nil: closed or never open
	once   bool     // close stdin when its first client ends
	master *os.File // terminal
	reads  []*os.File
	input  []*os.File // stdin pipes of the clients there at the start
	last   time.Time  // when output last moved, for the end of a stream held open
	busy   int        // pumps that are writing what they read
	wg     sync.WaitGroup
	done   chan struct{} // closed by finish
}

func newStdio(stdout, stderr *fanout) *stdio {
	return &stdio{stdout: stdout, stderr: stderr, done: make(chan struct{})}
}

// pollable makes our end of a pipe or terminal one that the runtime's poller
// serves: no thread waits in a read.
func pollable(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	f.Close()
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// pipes makes the process's ends for streams on pipes: stdin only when open.
func (s *stdio) pipes(open bool) (in, out, errOut *os.File, err error) {
	var ends []*os.File
	defer func() {
		if err != nil {
			for _, f := range ends {
				f.Close()
			}
		}
	}()
	pipe := func() (r, w *os.File) {
		var p [2]int
		if err == nil {
			err = unix.Pipe2(p[:], unix.O_CLOEXEC)
		}
		if err != nil {
			return nil, nil
		}
		unix.FcntlInt(uintptr(p[0]), unix.F_SETPIPE_SZ, pipeSize) // smaller ones work too
		r, w = os.NewFile(uintptr(p[0]), "pipe"), os.NewFile(uintptr(p[1]), "pipe")
		ends = append(ends, r, w)
		return r, w
	}
	outR, out := pipe()
	errR, errOut := pipe()
	var inW *os.File
	if open {
		in, inW = pipe()
	}
	if err != nil {
		return nil, nil, nil, err
	}
	for _, f := range []**os.File{&outR, &errR, &inW} {
		if *f == nil {
			continue
		}
		if *f, err = pollable(*f); err != nil {
			return nil, nil, nil, err
		}
		ends = append(ends, *f)
	}
	s.stdin, s.reads = inW, []*os.File{outR, errR}
	s.run(s.stdout, outR)
	s.run(s.stderr, errR)
	return in, out, errOut, nil
}

// terminal takes the master of the process's terminal.
func (s *stdio) terminal(master *os.File) error {
	m, err := pollable(master)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.master, s.stdin = m, m
	s.mu.Unlock()
	s.reads = []*os.File{m}
	s.run(s.stdout, m)
	return nil
}

func (s *stdio) run(o *fanout, r *os.File) {
	s.wg.Go(func() {
		o.pump(r, func(writing bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.last = time.Now()
			if writing {
				s.busy++
			} else {
				s.busy--
			}
		})
	})
}

// feed copies a client's pipe to the process's stdin until either ends.
func (s *stdio) feed(r *os.File) {
	defer r.Close()
	s.mu.Lock()
	w := s.stdin
	s.mu.Unlock()
	if w == nil {
		return
	}
	io.Copy(w, r)
	if s.once {
		s.closeStdin()
	}
}

func (s *stdio) closeStdin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.master != nil {
		return // input to a terminal never ends: who detached may come back
	}
	if s.stdin != nil {
		s.stdin.Close()
	}
	s.stdin = nil
}

func (s *stdio) resize(width, height uint16) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.master == nil {
		return nil // no terminal, or it ended: nothing to size
	}
	rc, err := s.master.SyscallConn()
	if err != nil {
		return err
	}
	rc.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width})
	})
	return err
}

// drain waits for the end of output after the process ended: until the last
// writer closed, or until all are dead (gone) and 2 s passed in which nothing
// moved: something outside the container may hold a pipe open for ever. A
// lossless reader that is slow has all the time it wants, unless the container
// was told to end (stopping).
func (s *stdio) drain(gone func() bool, stopping <-chan struct{}) {
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	defer s.finish()
	const quiet = 2 * time.Second
	for {
		select {
		case <-done:
			return
		case <-time.After(100 * time.Millisecond):
		}
		s.mu.Lock()
		idle, busy := time.Since(s.last), s.busy > 0
		s.mu.Unlock()
		if idle <= quiet || !gone() {
			continue
		}
		if !busy {
			for _, r := range s.reads {
				r.Close()
			}
			<-done
			return
		}
		select {
		case <-stopping: // what is left in the pipes goes to the log alone
			s.stdout.end()
			s.stderr.end()
		default:
		}
	}
}

func (s *stdio) finish() {
	s.closeStdin()
	s.mu.Lock()
	if s.master != nil {
		s.master.Close()
		s.master = nil
	}
	s.mu.Unlock()
	for _, r := range s.reads {
		r.Close()
	}
	s.stdout.end()
	s.stderr.end()
	close(s.done)
}
