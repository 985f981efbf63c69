package shim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	goruntime "runtime"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
	"golang.org/x/sys/unix"
)

// dialLimit ends a connection attempt that the client did not end itself.
const dialLimit = 2 * time.Minute

// descriptor makes what a program cannot make itself without entering the
// container's namespaces.
func (s *shim) descriptor(req *Request) ([]*os.File, error) {
	if req.Op == opNetNS && s.wires != nil { // it lasts between two runs
		fd, err := unix.FcntlInt(s.netns.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, fault.ErrNotRunning // its last run is over
		}
		return []*os.File{os.NewFile(uintptr(fd), "netns")}, nil
	}
	run := s.snapshot()
	if run.Pid == 0 {
		return nil, fault.ErrNotRunning
	}
	switch req.Op {
	case opBase:
		return openOne(s.rootfs, unix.O_PATH|unix.O_DIRECTORY)
	case opRoot:
		return openOne(fmt.Sprintf("/proc/%d/root", run.Pid), unix.O_PATH|unix.O_DIRECTORY)
	case opTree:
		dir, err := openOne(fmt.Sprintf("/proc/%d/root", run.Pid), unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return nil, err
		}
		ns, err := openOne(fmt.Sprintf("/proc/%d/ns/mnt", run.Pid), unix.O_RDONLY)
		if err != nil {
			dir[0].Close()
			return nil, err
		}
		return append(dir, ns...), nil
	case opNetNS:
		return openOne(fmt.Sprintf("/proc/%d/ns/net", run.Pid), unix.O_RDONLY)
	}
	ns, err := openOne(fmt.Sprintf("/proc/%d/ns/net", run.Pid), unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer ns[0].Close()
	return dialIn(ns[0], req.Network, req.Address)
}

func openOne(path string, flags int) ([]*os.File, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return []*os.File{os.NewFile(uintptr(fd), path)}, nil
}

// dialIn connects from inside a network namespace. Only the socket must be
// made there: a socket keeps its namespace. Names are not resolved, since
// that would ask the host's resolver.
func dialIn(ns *os.File, network, address string) ([]*os.File, error) {
	return dialWithin(ns, network, address, dialLimit)
}

func dialWithin(ns *os.File, network, address string, limit time.Duration) ([]*os.File, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fault.Invalid("address %q: %w", address, err)
	}
	if host != "" && net.ParseIP(host) == nil {
		return nil, fault.Invalid("address %q: give an IP address", address)
	}
	type result struct {
		f   *os.File
		err error
	}
	done := make(chan result, 1)
	go func() {
		// The thread is thrown away with the goroutine: it is never unlocked.
		goruntime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			done <- result{err: errors.New("dial ran on the main thread")}
			return
		}
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- result{err: os.NewSyscallError("setns", err)}
			return
		}
		f, err := dialFile(network, address, limit)
		done <- result{f, err}
	}()
	r := <-done
	if r.err != nil {
		return nil, r.err
	}
	return []*os.File{r.f}, nil
}

func dialFile(network, address string, limit time.Duration) (*os.File, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	// A numeric address is dialled on this very goroutine (no happy eyeballs),
	// so that the socket is made on the locked thread.
	conn, err := (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	fc, ok := conn.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, fault.Invalid("network %q cannot be dialled", network)
	}
	return fc.File()
}
