package shim

import (
	"context"
	"io"
	"os"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/wire"
)

// Session is a client joined to streams: of a running container (Attach) or
// of a further process (Exec).
type Session struct {
	Pid  int // of an exec, as the host numbers it
	conn *wire.Conn
}

// Exec starts a process on the given pipes (nil for none). The caller closes
// its copies after.
func (c *Client) Exec(ctx context.Context, x *Exec, stdin, stdout, stderr *os.File) (*Session, error) {
	return c.join(ctx, &Request{Op: opExec, Exec: x}, stdin, stdout, stderr)
}

// Attach joins pipes to the container's streams. Output that was before is in
// the log only.
func (c *Client) Attach(ctx context.Context, stdin, stdout, stderr *os.File) (*Session, error) {
	return c.join(ctx, &Request{Op: opAttach}, stdin, stdout, stderr)
}

func (c *Client) join(ctx context.Context, req *Request, pipes ...*os.File) (*Session, error) {
	req.Streams = Streams{Stdin: pipes[0] != nil, Stdout: pipes[1] != nil, Stderr: pipes[2] != nil}
	r, _, err := c.call(ctx, req, present(pipes)...)
	if err != nil {
		return nil, err
	}
	return &Session{Pid: r.Pid, conn: c.conn}, nil
}

func present(files []*os.File) []*os.File {
	var out []*os.File
	for _, f := range files {
		if f != nil {
			out = append(out, f)
		}
	}
	return out
}

// Signal sends a signal to the process of an exec. It waits for no answer.
func (s *Session) Signal(signal int) error {
	return s.conn.Send(&Request{Op: opSignal, Signal: signal})
}

// Resize sets the size of the session's terminal. It waits for no answer.
func (s *Session) Resize(width, height uint16) error {
	return s.conn.Send(&Request{Op: opResize, Width: width, Height: height})
}

// Wait returns how an exec's process ended. If the supervisor died it is
// io.ErrUnexpectedEOF.
func (s *Session) Wait() (*record.Exit, error) {
	var r Reply
	files, err := s.conn.Receive(&r)
	wire.CloseAll(files)
	if err != nil || r.Exit == nil {
		return nil, io.ErrUnexpectedEOF
	}
	return r.Exit, nil
}

// WaitClosed waits for the end of an attachment: nil when the container's
// output ended, fault.ErrSlow when this client was too slow.
func (s *Session) WaitClosed() error {
	var r Reply
	files, err := s.conn.Receive(&r)
	wire.CloseAll(files)
	if err != nil {
		return nil // the shim is gone, and the output with it
	}
	if r.Closed == "slow" {
		return fault.ErrSlow
	}
	return nil
}

// Close leaves. The container, or the process, goes on.
func (s *Session) Close() error { return s.conn.Close() }
