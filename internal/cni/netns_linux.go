package cni

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
)

// openNetNS opens a namespace and makes sure that it is one of networks.
func openNetNS(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Invalid("network namespace %s: %w", path, fault.Opaque(err))
	}
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		f.Close()
		return nil, fault.Invalid("%s is not a network namespace", path)
	}
	return f, nil
}

// inside opens a namespace, and calls f in it with a handle for its links,
// addresses and routes.
func inside(netns string, f func(*netlink.Handle) error) error {
	ns, err := openNetNS(netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	return withNetlink(ns, f)
}

// withNetlink is inside for a namespace that is open.
func withNetlink(ns *os.File, f func(*netlink.Handle) error) error {
	return inNetNS(ns, func() error {
		h, err := openNetlink()
		if err != nil {
			return err
		}
		defer h.Close()
		return f(h)
	})
}

// inNetNS runs f on a thread that is in the namespace for that long. f must not
// start goroutines. The thread is never the main one, whose namespace
// /proc/self shows to everybody; one that cannot come back is given up.
func inNetNS(ns *os.File, f func() error) error {
	done := make(chan error, 1)
	go onThread(ns, f, done)
	return <-done
}

func onThread(ns *os.File, f func() error, done chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// Held while the other one looks for a thread, which so is another.
		inner := make(chan error, 1)
		go onThread(ns, f, inner)
		err := <-inner
		runtime.UnlockOSThread()
		done <- err
		return
	}
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		done <- fault.Opaque(err)
		return
	}
	defer home.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		done <- fmt.Errorf("enter network namespace %s: %w", ns.Name(), fault.Opaque(err))
		return
	}
	err = guarded(f)
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back == nil {
		runtime.UnlockOSThread()
	}
	done <- err
}

// guarded keeps a panic from ending the process from a goroutine of ours.
func guarded(f func() error) (err error) {
	defer recoverTo(&err, "in a namespace")
	return f()
}

// openNetlink opens a handle for links, addresses and routes in the
// namespace of the calling thread.
func openNetlink() (*netlink.Handle, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", fault.Opaque(err))
	}
	return h, nil
}

// dump repeats a netlink dump that changes have interrupted.
func dump[T any](f func() ([]T, error)) ([]T, error) {
	for try := 0; ; try++ {
		all, err := f()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
		if try == 20 { // what is there is then good enough
			return all, nil
		}
	}
}

func isNotFound(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.As(err, &missing) || errors.Is(err, unix.ENODEV)
}
