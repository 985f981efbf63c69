package dns

import (
	"context"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
	"golang.org/x/sys/unix"
)

// within runs f on a thread that is in the network namespace ns. The thread
// ends with it, so that no error can leave one behind in the wrong namespace.
// f must not start goroutines: they run elsewhere.
func within(ns int, f func() error) error {
	done := make(chan error, 1)
	go enter(ns, f, done)
	return <-done
}

func enter(ns int, f func() error, done chan<- error) {
	runtime.LockOSThread() // never unlocked: the runtime then ends the thread
	if unix.Gettid() == unix.Getpid() {
		// The main thread is not ended but parked, and /proc/self would show
		// the namespace for ever. Held here, it is not where the next one runs.
		next := make(chan error, 1)
		go enter(ns, f, next)
		err := <-next
		runtime.UnlockOSThread()
		done <- err
		return
	}
	if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
		done <- os.NewSyscallError("setns", err)
		return
	}
	done <- f()
}

// listenAt makes the server's sockets in the namespace.
func listenAt(ns int) (*net.UDPConn, *net.TCPListener, error) {
	fds := [2]int{-1, -1}
	err := within(ns, func() error {
		for i, kind := range []int{unix.SOCK_DGRAM, unix.SOCK_STREAM} {
			fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				return os.NewSyscallError("socket", err)
			}
			fds[i] = fd
			if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: self().As4()}); err != nil {
				return os.NewSyscallError("bind "+self().String()+" (is lo up in the namespace?)", err)
			}
		}
		// Room for a burst of some thousand queries; without the privilege the
		// default's few hundred must do.
		unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<20)
		return os.NewSyscallError("listen", unix.Listen(fds[1], 16))
	})
	udp, tcp := os.NewFile(uintptr(fds[0]), "dns"), os.NewFile(uintptr(fds[1]), "dns")
	defer udp.Close() // what the net package makes of them are duplicates
	defer tcp.Close()
	if err != nil {
		return nil, nil, err
	}
	pc, err := net.FilePacketConn(udp)
	if err != nil {
		return nil, nil, err
	}
	l, err := net.FileListener(tcp)
	if err != nil {
		pc.Close()
		return nil, nil, err
	}
	return pc.(*net.UDPConn), l.(*net.TCPListener), nil
}

// dial connects to an upstream server, from the host's namespace or from ns.
// For TCP it waits at most timeout.
func dial(ctx context.Context, ns int, s server, kind int, timeout time.Duration) (net.Conn, error) {
	fd, begun := -1, error(nil)
	open := func() (err error) {
		family, sa, err := sockaddr(s.addr)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return os.NewSyscallError("socket", err)
		}
		begun = unix.Connect(fd, sa)
		return nil
	}
	var err error
	if s.host {
		err = open()
	} else {
		err = within(ns, open)
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "dns")
	defer f.Close()
	if begun == unix.EINPROGRESS {
		stop := context.AfterFunc(ctx, func() { f.SetDeadline(time.Unix(1, 0)) })
		defer stop()
		begun = connected(f, time.Now().Add(timeout))
	}
	if begun != nil {
		return nil, os.NewSyscallError("connect", begun)
	}
	return net.FileConn(f)
}

// connected waits until a connection has come about.
func connected(f *os.File, deadline time.Time) error {
	f.SetWriteDeadline(deadline)
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = raw.Write(func(fd uintptr) bool {
		if _, err := unix.Getpeername(int(fd)); err == nil {
			return true
		}
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code == 0 {
			return false
		}
		result = unix.Errno(code)
		return true
	})
	if err != nil {
		return err
	}
	return result
}

func sockaddr(a netip.AddrPort) (family int, sa unix.Sockaddr, err error) {
	if a.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}, nil
	}
	to := &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	if z := a.Addr().Zone(); z != "" {
		i, err := net.InterfaceByName(z)
		if err != nil {
			return 0, nil, fault.Opaque(err)
		}
		to.ZoneId = uint32(i.Index)
	}
	return unix.AF_INET6, to, nil
}
