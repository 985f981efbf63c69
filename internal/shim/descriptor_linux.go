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
	"github.com/amphora-go/amphora/internal/proc"
	"github.com/amphora-go/amphora/internal/wire"
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
	switch req.Op {
	case opBase:
		if s.snapshot().Pid == 0 {
			return nil, fault.ErrNotRunning
		}
		return openOne(s.rootfs, unix.O_PATH|unix.O_DIRECTORY)
	case opRoot:
		return s.openInit("root")
	case opTree:
		return s.openInit("root", "ns/mnt")
	case opNetNS:
		return s.openInit("ns/net")
	}
	ns, err := s.openInit("ns/net")
	if err != nil {
		return nil, err
	}
	defer ns[0].Close()
	return dialIn(ns[0], req.Network, req.Address)
}

// openInit opens what /proc shows of the container's first process: its root
// without access to the content, or namespaces. That process is still there
// afterwards, so that no other with its number was looked at.
func (s *shim) openInit(names ...string) (files []*os.File, err error) {
	run := s.snapshot()
	if run.Pid == 0 {
		return nil, fault.ErrNotRunning
	}
	for _, name := range names {
		flags := unix.O_RDONLY
		if name == "root" {
			flags = unix.O_PATH | unix.O_DIRECTORY
		}
		var f []*os.File
		if f, err = openOne(fmt.Sprintf("/proc/%d/%s", run.Pid, name), flags); err != nil {
			break
		}
		files = append(files, f...)
	}
	if !proc.Alive(run.Pid, run.PidStart) {
		err = fault.ErrNotRunning // it has just ended
	}
	if err != nil {
		wire.CloseAll(files)
		return nil, err
	}
	return files, nil
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
