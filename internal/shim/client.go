package shim

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/wire"
)

// Launcher starts supervisors: by a process, or in tests by something else.
type Launcher interface {
	Launch(ctx context.Context, o *LaunchOptions) (*Started, error)
}

// LaunchOptions are what a start needs besides what the store says.
type LaunchOptions struct {
	Root     *record.Root
	ID       string
	Base     string     // control group of the Root
	Alive    *os.File   // the container's alive lock, held
	Owners   []*os.File // pairs of pipe and pidfd
	NetNS    *os.File   // of another container, to join
	Stdin    *os.File   // read end of a pipe, or nil
	Stdout   *os.File   // write ends of pipes, or nil
	Stderr   *os.File
	Restarts int
	Secrets  *Secrets // of a build's command, or nil
}

// Started is a supervisor that has started its container.
type Started struct {
	Run  *record.Run
	conn *wire.Conn
}

// StartError is a start that failed inside the supervisor. Code is 125, 126
// or 127 as the command line has it.
type StartError struct {
	Code int
	Err  error
}

func (e *StartError) Error() string { return e.Err.Error() }
func (e *StartError) Unwrap() error { return e.Err }

// Wait returns how the container ended. A supervisor that dies without a word
// is io.ErrUnexpectedEOF.
func (s *Started) Wait(ctx context.Context) (*record.Exit, error) {
	r, err := receive(ctx, s.conn)
	if err != nil {
		return nil, err
	}
	return r.Exit, nil
}

// WaitRemoved returns once the container was removed, or will not be.
func (s *Started) WaitRemoved(ctx context.Context) error {
	_, err := receive(ctx, s.conn)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// Close forgets the supervisor; the container goes on.
func (s *Started) Close() error { return s.conn.Close() }

// receive waits for a reply. When ctx ends the connection is closed: that is
// how a shim learns that nobody waits any more.
func receive(ctx context.Context, conn *wire.Conn) (*Reply, error) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var r Reply
	files, err := conn.Receive(&r)
	wire.CloseAll(files)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	return &r, r.Error.Unpack()
}

// Client is a connection to a running container's supervisor, for one request
// at a time.
type Client struct{ conn *wire.Conn }

// Dial connects to the container's supervisor. fault.ErrNotRunning: nobody
// answers there.
func Dial(ctx context.Context, root *record.Root, id string) (*Client, error) {
	conn, err := wire.Dial(root.Socket(id))
	if err != nil {
		if errors.Is(err, errors.ErrUnsupported) {
			return nil, err
		}
		return nil, fault.Kind(fault.ErrNotRunning, "the container is not running")
	}
	c := &Client{conn}
	var r Reply
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if _, err := conn.Receive(&r); err != nil || r.Hello == nil {
		conn.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fault.Kind(fault.ErrNotRunning, "the container's supervisor has just ended")
	}
	if err := r.Hello.Check(); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// Close ends the connection, and with it a pending wait or attachment.
func (c *Client) Close() error { return c.conn.Close() }

func (c *Client) call(ctx context.Context, req *Request, files ...*os.File) (*Reply, []*os.File, error) {
	req.Hello = &wire.Hello{Protocol: wire.Protocol, Minimum: wire.Minimum}
	if err := c.conn.Send(req, files...); err != nil {
		return nil, nil, fault.Kind(fault.ErrNotRunning, "the container's supervisor has just ended")
	}
	stop := context.AfterFunc(ctx, func() { c.conn.Close() })
	defer stop()
	var r Reply
	got, err := c.conn.Receive(&r)
	if ctx.Err() != nil {
		wire.CloseAll(got)
		return nil, nil, ctx.Err()
	}
	if err != nil {
		return nil, nil, io.ErrUnexpectedEOF
	}
	if r.Error != nil {
		wire.CloseAll(got)
		err := r.Error.Unpack()
		if r.Code != 0 {
			err = &StartError{Code: r.Code, Err: err}
		}
		return nil, nil, err
	}
	return &r, got, nil
}

func (c *Client) simple(ctx context.Context, req *Request) error {
	_, files, err := c.call(ctx, req)
	wire.CloseAll(files)
	return err
}

// State returns the run as the supervisor sees it.
func (c *Client) State(ctx context.Context) (*record.Run, error) {
	r, _, err := c.call(ctx, &Request{Op: opState})
	if err != nil {
		return nil, err
	}
	return r.Run, nil
}

// Wait returns how the container ended, once it has ("exit") or once it was
// removed too ("removed").
func (c *Client) Wait(ctx context.Context, until string) (*record.Exit, error) {
	r, _, err := c.call(ctx, &Request{Op: opWait, Until: until})
	if err != nil {
		return nil, err
	}
	return r.Exit, nil
}

// Stop asks the container to end and returns when it has. Signal 0 and
// timeout 0 mean the container's own; a negative timeout never kills. When
// ctx ends, the request stays in force.
func (c *Client) Stop(ctx context.Context, signal int, timeout time.Duration) (*record.Exit, error) {
	r, _, err := c.call(ctx, &Request{Op: opStop, Signal: signal, Timeout: timeout})
	if err != nil {
		return nil, err
	}
	return r.Exit, nil
}

// Signal sends a signal to the container's first process.
func (c *Client) Signal(ctx context.Context, signal int) error {
	return c.simple(ctx, &Request{Op: opSignal, Signal: signal})
}

// Pause freezes the container's processes, Resume lets them go on.
func (c *Client) Pause(ctx context.Context) error  { return c.simple(ctx, &Request{Op: opPause}) }
func (c *Client) Resume(ctx context.Context) error { return c.simple(ctx, &Request{Op: opResume}) }

// AutoRemove says whether the container is removed at its end.
func (c *Client) AutoRemove(ctx context.Context, on bool) error {
	op := opKeep
	if on {
		op = opDiscard
	}
	return c.simple(ctx, &Request{Op: op})
}

// Resize sets the size of the terminal, of the container or of this
// connection's exec. After the end it does nothing.
func (c *Client) Resize(ctx context.Context, width, height uint16) error {
	return c.simple(ctx, &Request{Op: opResize, Width: width, Height: height})
}

// Pids lists the container's processes by the host's numbers.
func (c *Client) Pids(ctx context.Context) ([]int, error) {
	r, _, err := c.call(ctx, &Request{Op: opPids})
	if err != nil {
		return nil, err
	}
	return r.Pids, nil
}

// Own makes the container end when the process of pidfd, or every holder of
// the pipe's write end, has.
func (c *Client) Own(ctx context.Context, pipe, pidfd *os.File) error {
	_, _, err := c.call(ctx, &Request{Op: opOwn}, pipe, pidfd)
	return err
}

func (c *Client) file(ctx context.Context, req *Request) (*os.File, error) {
	_, files, err := c.call(ctx, req)
	if err != nil {
		return nil, err
	}
	if len(files) != 1 {
		wire.CloseAll(files)
		return nil, errors.New("the supervisor's answer lacks its descriptor")
	}
	return files[0], nil
}

// Root returns a descriptor of the container's root directory.
func (c *Client) Root(ctx context.Context) (*os.File, error) {
	return c.file(ctx, &Request{Op: opRoot})
}

// Tree returns a descriptor of the container's root directory, and one that
// keeps everything mounted there while it is open, also after the container's
// end.
func (c *Client) Tree(ctx context.Context) (root, hold *os.File, err error) {
	_, files, err := c.call(ctx, &Request{Op: opTree})
	if err != nil {
		return nil, nil, err
	}
	if len(files) != 2 {
		wire.CloseAll(files)
		return nil, nil, errors.New("the supervisor's answer lacks its descriptors")
	}
	return files[0], files[1], nil
}

// Base returns a descriptor of the container's root directory as it is below
// everything that is mounted there.
func (c *Client) Base(ctx context.Context) (*os.File, error) {
	return c.file(ctx, &Request{Op: opBase})
}

// Hold freezes the container's processes until the client is closed.
func (c *Client) Hold(ctx context.Context) error { return c.simple(ctx, &Request{Op: opHold}) }

// NetNS returns a descriptor of the container's network namespace.
func (c *Client) NetNS(ctx context.Context) (*os.File, error) {
	return c.file(ctx, &Request{Op: opNetNS})
}

// Connect attaches the container to a further network, Disconnect ends that.
func (c *Client) Connect(ctx context.Context, e *record.Endpoint) error {
	return c.simple(ctx, &Request{Op: opConnect, Endpoint: e})
}
func (c *Client) Disconnect(ctx context.Context, network string) error {
	return c.simple(ctx, &Request{Op: opDisconnect, Network: network})
}

// Update changes limits and restart policy, in force and in the record.
func (c *Client) Update(ctx context.Context, u *Update) error {
	return c.simple(ctx, &Request{Op: opUpdate, Update: u})
}

// Dial returns a socket that is connected from inside the container.
func (c *Client) Dial(ctx context.Context, network, address string) (*os.File, error) {
	return c.file(ctx, &Request{Op: opDial, Network: network, Address: address})
}
