package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/term"

	"github.com/amphora-go/amphora/container"
)

// joinOptions say how this program's streams are joined to a container's.
type joinOptions struct {
	stdin, tty bool
	proxy      bool // send signals on to the container
	keys       string
}

func (o *joinOptions) define(f *flags) {
	f.text(&o.keys, "detach-keys", "Override the `keys` for detaching a container (default ctrl-p,ctrl-q with -t)")
	f.bool(&o.proxy, "sig-proxy", "Proxy received signals to the process (default true)")
}

// runAttached starts the container with this program's streams joined to it
// and ends with its exit code.
func (a *app) runAttached(ctx context.Context, c *container.Container, o *joinOptions) error {
	streams, restore, err := a.streams(o)
	if err != nil {
		return coded{err, 125}
	}
	defer restore()
	att, err := c.StartAttached(ctx, streams)
	if err != nil {
		return coded{err, container.Code(err)}
	}
	defer a.follow(c, o)()
	exit, err := att.Wait(context.WithoutCancel(ctx))
	return a.ended(exit, err)
}

// ended turns the end of an attachment into this program's.
func (a *app) ended(exit *container.Exit, err error) error {
	switch {
	case errors.Is(err, container.ErrDetached):
		fmt.Fprint(a.stderr, "read escape sequence\r\n")
		return nil
	case err != nil:
		return coded{err, 125}
	case exit.Unknown:
		return coded{errors.New(exit.Error), exit.Code}
	case exit.Code != 0:
		return exitCode(exit.Code)
	}
	return nil
}

// streams returns what to join, with the terminal, if there is one on both
// sides, in raw mode until restore.
func (a *app) streams(o *joinOptions) (_ *container.IO, restore func(), err error) {
	s := &container.IO{Stdout: a.stdout, Stderr: a.stderr, DetachKeys: o.keys}
	restore = func() {}
	if !o.stdin {
		return s, restore, nil
	}
	s.Stdin = a.stdin
	if o.tty {
		restore, err = a.raw()
	}
	return s, restore, err
}

// raw puts the terminal into raw mode, where ctrl-c and all other keys are
// passed on to the container, whose own terminal makes of them what it will.
func (a *app) raw() (restore func(), err error) {
	fd := int(a.stdin.Fd())
	if !term.IsTerminal(fd) {
		return func() {}, nil
	}
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("put the terminal into raw mode: %w", err)
	}
	return func() { term.Restore(fd, old) }, nil
}

// checkTerminal refuses -it where there is no terminal to join.
func (a *app) checkTerminal(tty bool) error {
	if tty && !term.IsTerminal(int(a.stdin.Fd())) {
		return errors.New("the input device is not a TTY; leave out -t, or -i")
	}
	return nil
}

// terminalSize is 0, 0 where there is no terminal.
func (a *app) terminalSize() (width, height uint16) {
	w, h, err := term.GetSize(int(a.stdout.Fd()))
	if err != nil {
		return 0, 0
	}
	return uint16(w), uint16(h)
}

// follow passes signals, and changes of the terminal's size, on to the
// container until stop.
func (a *app) follow(c *container.Container, o *joinOptions) (stop func()) {
	ctx := context.Background()
	stopSize := func() {}
	if o.tty {
		stopSize = a.followSize(func(w, h uint16) { c.Resize(ctx, w, h) })
	}
	if !o.proxy {
		return stopSize
	}
	return both(stopSize, a.proxy(func(signal string) { c.Signal(ctx, signal) }))
}

func both(f, g func()) func() { return func() { f(); g() } }

// proxy has send told of the signals that this program gets, by number, until
// stop.
func (a *app) proxy(send func(signal string)) (stop func()) {
	take := func(s os.Signal) {
		if n, ok := s.(syscall.Signal); ok {
			send(fmt.Sprint(int(n)))
		}
	}
	a.onSignal.Store(&take)
	stopMore := moreSignals(take)
	return func() {
		stopMore()
		a.onSignal.Store(nil)
	}
}
