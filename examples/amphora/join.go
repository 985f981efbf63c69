package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
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
	joined, open, stop := a.follow(ctx, c, o)
	defer stop()
	att, err := c.StartAttached(ctx, streams)
	open()
	if err != nil {
		return coded{err, container.Code(err)}
	}
	exit, err := att.Wait(joined)
	return a.ended(joined, exit, err)
}

// ended turns the end of an attachment into this program's.
func (a *app) ended(ctx context.Context, exit *container.Exit, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
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
// container from open to stop; signals before that wait. They do not end the
// context that it returns. That the terminal is gone does.
func (a *app) follow(ctx context.Context, c *container.Container, o *joinOptions) (joined context.Context, open, stop func()) {
	ctx = context.WithoutCancel(ctx)
	joined, hangUp := context.WithCancelCause(ctx)
	open, stop = func() {}, func() { hangUp(nil) }
	if o.proxy {
		openSignals, stopSignals := a.proxy(func(signal syscall.Signal) {
			c.Signal(ctx, fmt.Sprint(int(signal)))
			if signal == syscall.SIGHUP && o.tty {
				hangUp(exitCode(128 + signal))
			}
		})
		open, stop = openSignals, both(stopSignals, stop)
	}
	if o.tty {
		openSize, stopSize := a.followSize(func(w, h uint16) { c.Resize(ctx, w, h) })
		open, stop = both(open, openSize), both(stopSize, stop)
	}
	return joined, open, stop
}

func both(f, g func()) func() { return func() { f(); g() } }

// proxy has send told of the signals that this program gets until stop. Those
// before open it keeps until then.
func (a *app) proxy(send func(syscall.Signal)) (open, stop func()) {
	opened := make(chan struct{})
	take := func(s os.Signal) {
		<-opened
		if n, ok := s.(syscall.Signal); ok {
			send(n)
		}
	}
	a.onSignal.Store(&take)
	moreSignals(take)
	open = sync.OnceFunc(func() { close(opened) })
	return open, func() {
		open()
		a.onSignal.Store(nil)
	}
}
