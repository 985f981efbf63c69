package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace that lives as long as it is open here, or
// somebody is in it.
type namespace struct{ file *os.File }

// newNamespace makes one with nothing in it but a loopback interface, which is
// down.
func newNamespace() (*namespace, error) {
	type made struct {
		ns  *namespace
		err error
	}
	result := make(chan made)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- made{err: fmt.Errorf("new network namespace: %w", err)}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		result <- made{&namespace{f}, err}
	}()
	m := <-result
	return m.ns, m.err
}

// path is how other processes find the namespace while it is open here.
func (n *namespace) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

func (n *namespace) close() { n.file.Close() }

// start starts a command in the namespace; the nil one is our own. No program
// is put before the command: that would be measured.
func (n *namespace) start(cmd *exec.Cmd) error {
	if n == nil {
		return cmd.Start()
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("enter the network namespace: %w", err)
			return
		}
		err := cmd.Start()
		result <- err // the thread ends here, instead of going back
	}()
	return <-result
}
