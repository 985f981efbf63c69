package shim

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// owner is a program whose end is the container's end: a pipe of which it
// holds the other side, and a pidfd. Whichever speaks first counts: a child
// that the owner forked may hold the pipe for ever.
type owner struct {
	pipe, pidfd *os.File
}

func (s *shim) takeOwners(files []*os.File) ([]owner, []*os.File, error) {
	if len(files) < 2*s.launch.Owners {
		return nil, files, errors.New("a launch request without its owners' descriptors")
	}
	var owners []owner
	for range s.launch.Owners {
		o, err := newOwner(files[0], files[1])
		if err != nil {
			return nil, files, err
		}
		owners, files = append(owners, o), files[2:]
	}
	s.owners = len(owners)
	return owners, files, nil
}

func newOwner(pipe, pidfd *os.File) (o owner, err error) {
	if o.pipe, err = pollable(pipe); err != nil {
		return o, err
	}
	o.pidfd, err = pollable(pidfd)
	return o, err
}

// watchOwner ends the container when the last owner is gone, after the time
// it may linger.
func (s *shim) watchOwner(o owner) {
	gone := make(chan struct{}, 2)
	go func() { io.Copy(io.Discard, o.pipe); gone <- struct{}{} }()
	go func() { awaitReadable(o.pidfd); gone <- struct{}{} }()
	<-gone
	o.pipe.Close()
	o.pidfd.Close()
	s.mu.Lock()
	s.owners--
	left := s.owners
	s.mu.Unlock()
	if left > 0 {
		return
	}
	select {
	case <-time.After(s.c.Linger):
	case <-s.ended:
	}
	s.mu.Lock()
	left = s.owners // another program may have taken it over meanwhile
	s.mu.Unlock()
	if left == 0 {
		s.kill()
	}
}

// awaitReadable waits in the runtime's poller, without a thread of its own.
func awaitReadable(f *os.File) {
	rc, err := f.SyscallConn()
	if err != nil {
		return
	}
	rc.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err != nil || n > 0
	})
}
