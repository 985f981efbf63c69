package container

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/shim"
)

// IO are the streams of a client. Nil ones are left alone.
type IO struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// DetachKeys, typed into Stdin, end the attachment with ErrDetached:
	// letters or ctrl-x joined by commas. Empty: "ctrl-p,ctrl-q" for a
	// container with a terminal, none for others; "none" switches them off.
	DetachKeys string
}

// Attach joins streams to those of the running container, from now on, and
// returns when its output ends: nil, or ErrDetached after the detach keys, or
// ErrSlow if the reader fell more than 1 MiB behind. Any number of clients may
// be attached. When ctx ends the container goes on.
func (c *Container) Attach(ctx context.Context, streams *IO) error {
	client, err := c.control(ctx)
	if err != nil {
		return c.fail("attach", err)
	}
	defer client.Close()
	a, err := c.attachment(ctx, streams)
	if err != nil {
		return c.fail("attach", err)
	}
	session, err := client.Attach(ctx, a.joints.theirs[0], a.joints.theirs[1], a.joints.theirs[2])
	if err != nil {
		a.joints.close()
		return c.fail("attach", err)
	}
	a.joints.handed()
	a.end = func() error { return session.WaitClosed() }
	a.leave = func() { session.Close() }
	return c.failed("attach", a.wait(ctx))
}

// StartAttached starts the container with streams joined to it from its first
// byte, without loss: if this program is slow, the container waits. Wait on
// the result ends as Attach does; the container goes on when ctx ends.
func (c *Container) StartAttached(ctx context.Context, streams *IO) (*Attachment, error) {
	a, err := c.attachment(ctx, streams)
	if err != nil {
		return nil, c.fail("start", err)
	}
	started, err := c.start(ctx, a.joints.theirs[0], a.joints.theirs[1], a.joints.theirs[2])
	if err != nil {
		a.joints.close()
		return nil, c.fail("start", err)
	}
	a.joints.handed()
	a.started = started
	a.leave = func() { started.Close() }
	return a, nil
}

// Attachment is a client joined to a container since its start.
type Attachment struct {
	c       *Container
	joints  *joints
	keys    *keyReader
	started *shim.Started
	end     func() error // waits until the container's side closed
	leave   func()

	once sync.Once
	exit *Exit
	err  error
}

// Wait returns how the container ended, once it has and all output was
// copied; for a container that is removed at its end, once it is gone. After
// the detach keys it is ErrDetached, after ctx its error; the container then
// goes on.
func (a *Attachment) Wait(ctx context.Context) (*Exit, error) {
	a.once.Do(func() {
		a.end = func() error {
			exit, err := a.started.Wait(context.WithoutCancel(ctx))
			if err == nil {
				a.exit = newExit(exit)
				err = a.started.WaitRemoved(context.WithoutCancel(ctx))
			}
			return err
		}
		a.err = a.wait(ctx)
		if errors.Is(a.err, io.ErrUnexpectedEOF) {
			a.exit, a.err = a.c.Wait(ctx, NotRunning)
		}
	})
	return a.exit, a.c.failed("wait", a.err)
}

func (c *Container) attachment(ctx context.Context, streams *IO) (*Attachment, error) {
	if streams == nil {
		streams = &IO{}
	}
	rec, err := c.m.root.Load(c.id)
	if err != nil {
		return nil, err
	}
	a := &Attachment{c: c}
	stdin, stderr := streams.Stdin, streams.Stderr
	if !rec.Stdin {
		stdin = nil
	}
	if rec.TTY {
		stderr = nil
	}
	if stdin != nil {
		keys, err := parseKeys(streams.DetachKeys, rec.TTY)
		if err != nil {
			return nil, err
		}
		a.keys = &keyReader{r: stdin, keys: keys, typed: make(chan struct{})}
		stdin = a.keys
	}
	a.joints, err = join(stdin, streams.Stdout, stderr)
	return a, err
}

// wait ends with the container's side, the detach keys or ctx.
func (a *Attachment) wait(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- a.end() }()
	var typed chan struct{}
	if a.keys != nil {
		typed = a.keys.typed
	}
	defer a.leave()
	select {
	case err := <-ended:
		if werr := a.joints.wait(0); err == nil {
			err = werr
		}
		return err
	case <-typed:
		a.joints.close()
		return ErrDetached
	case <-ctx.Done():
		a.joints.close()
		return ctx.Err()
	}
}

// keyReader passes input on and notices the detach keys, which it holds back
// while they may still become complete.
type keyReader struct {
	r     io.Reader
	keys  []byte
	seen  int // how many of keys were read in a row
	out   []byte
	done  bool
	typed chan struct{}
}

func (k *keyReader) Read(p []byte) (int, error) {
	for len(k.out) == 0 {
		n, err := k.r.Read(p)
		for _, b := range p[:n] {
			if len(k.keys) == 0 || b != k.keys[k.seen] {
				k.out = append(k.out, k.keys[:k.seen]...)
				k.seen = 0
				if len(k.keys) == 0 || b != k.keys[0] {
					k.out = append(k.out, b)
					continue
				}
			}
			if k.seen++; k.seen == len(k.keys) {
				k.done = true
				break
			}
		}
		if k.done && len(k.out) == 0 {
			close(k.typed)
			return 0, io.EOF
		}
		if err != nil && k.seen > 0 { // they were not meant as keys
			k.out = append(k.out, k.keys[:k.seen]...)
			k.seen = 0
		}
		if err != nil && len(k.out) == 0 {
			return 0, err
		}
	}
	n := copy(p, k.out)
	if k.out = k.out[n:]; k.done && len(k.out) == 0 {
		defer close(k.typed)
		return n, io.EOF
	}
	return n, nil
}

// parseKeys reads "ctrl-p,ctrl-q" or "a,b".
func parseKeys(s string, tty bool) ([]byte, error) {
	switch {
	case s == "none", s == "" && !tty:
		return nil, nil
	case s == "":
		s = "ctrl-p,ctrl-q"
	}
	var keys []byte
	for _, k := range strings.Split(s, ",") {
		rest, ctrl := strings.CutPrefix(k, "ctrl-")
		switch {
		case ctrl && len(rest) == 1 && rest[0] >= '@' && rest[0] <= '_', ctrl && len(rest) == 1 && rest[0] >= 'a' && rest[0] <= 'z':
			keys = append(keys, rest[0]&0x1f)
		case !ctrl && len(k) == 1:
			keys = append(keys, k[0])
		default:
			return nil, fault.Invalid("detach keys %q: give single letters or ctrl-letter, joined by commas", s)
		}
	}
	return keys, nil
}
