package container

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/shim"
)

var errWaitDelay = exec.ErrWaitDelay

// Exec is a further process of a running container, used as an os/exec.Cmd:
// fill it in, then Run, Output, or Start and Wait. It cannot be reused.
type Exec struct {
	Args       []string // the command and its arguments
	Env        []string // laid over the container's
	Dir        string   // empty: the container's
	User       string   // name or uid with ":group" if wanted; empty: the container's
	TTY        bool     // give it a terminal; its output comes on Stdout
	Width      uint16   // of the terminal, in cells
	Height     uint16
	Privileged bool // with all capabilities

	// Streams; nil is /dev/null. They are joined by pipes that are the
	// process's own, so that its bytes cross nothing but this program.
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	// Cancel is called when the context of Command ends while the process
	// runs; nil kills it.
	Cancel func() error
	// WaitDelay bounds the time between the end of the process and the end of
	// its output, which its children may hold open; 0: no bound.
	WaitDelay time.Duration

	// Pid is the process's number on the host, once started.
	Pid int

	c       *Container
	ctx     context.Context
	long    bool // tests compare the two ways
	session *shim.Session
	joints  *joints
	stop    func() bool
	mu      sync.Mutex // guards canceled
	cancel  error
}

// Command describes a process to run in the container. When ctx ends the
// process is killed.
func (c *Container) Command(ctx context.Context, arg ...string) *Exec {
	return &Exec{Args: arg, c: c, ctx: ctx}
}

func (x *Exec) fail(err error) error {
	name := record.Short(x.c.id)
	if len(x.Args) > 0 {
		name += " " + x.Args[0]
	}
	return fault.New("container exec", name, err)
}

// Start starts the process.
func (x *Exec) Start() error {
	if x.session != nil {
		return x.fail(errors.New("it was started already"))
	}
	if len(x.Args) == 0 {
		return x.fail(fault.Invalid("no command"))
	}
	client, err := x.c.control(x.ctx)
	if err != nil {
		return x.fail(err)
	}
	stderr := x.Stderr
	if x.TTY {
		stderr = nil
	}
	j, err := join(x.Stdin, x.Stdout, stderr)
	if err != nil {
		client.Close()
		return x.fail(err)
	}
	req := &shim.Exec{Args: x.Args, Env: x.Env, Dir: x.Dir, User: x.User, TTY: x.TTY, Width: x.Width, Height: x.Height, Privileged: x.Privileged, Long: x.long}
	x.session, err = client.Exec(x.ctx, req, j.theirs[0], j.theirs[1], j.theirs[2])
	if err != nil {
		j.close()
		client.Close()
		return x.fail(err)
	}
	j.handed()
	x.joints, x.Pid = j, x.session.Pid
	x.stop = context.AfterFunc(x.ctx, x.canceled)
	return nil
}

func (x *Exec) canceled() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.cancel = x.ctx.Err()
	if x.Cancel == nil {
		x.session.Signal(9)
		return
	}
	switch err := x.Cancel(); {
	case errors.Is(err, os.ErrProcessDone):
		x.cancel = nil
	case err != nil:
		x.cancel = err
	}
}

// Signal sends the process a signal, such as "SIGINT".
func (x *Exec) Signal(signal string) error {
	sig, err := ParseSignal(signal)
	if err != nil {
		return x.fail(err)
	}
	if x.session == nil {
		return x.fail(ErrNotRunning)
	}
	return x.session.Signal(sig)
}

// Resize sets the size of the process's terminal. After its end it does
// nothing.
func (x *Exec) Resize(width, height uint16) error {
	if x.session != nil {
		x.session.Resize(width, height)
	}
	return nil
}

// Wait waits for the process and its output to end. An end that was not clean
// is an *ExitError.
func (x *Exec) Wait() error {
	if x.session == nil {
		return x.fail(errors.New("it was not started"))
	}
	exit, err := x.session.Wait()
	x.stop()
	x.session.Close()
	werr := x.joints.wait(x.WaitDelay)
	x.mu.Lock()
	canceled := x.cancel
	x.mu.Unlock()
	switch {
	case err != nil:
		return x.fail(fault.Kind(ErrNotRunning, "the container ended while the process ran (%w)", err))
	case canceled != nil && (exit.Code != 0 || x.Cancel != nil): // else it was faster than our kill
		return x.fail(stopped(canceled, newExit(exit)))
	case exit.Code != 0:
		return x.fail(&ExitError{Exit: *newExit(exit)})
	}
	return werr
}

// Run starts the process and waits for it.
func (x *Exec) Run() error {
	if err := x.Start(); err != nil {
		return err
	}
	return x.Wait()
}

// Output runs the process and returns what it wrote to Stdout. An *ExitError
// has what it wrote to Stderr, if that was not set.
func (x *Exec) Output() ([]byte, error) {
	if x.Stdout != nil {
		return nil, x.fail(errStream("Stdout"))
	}
	var out bytes.Buffer
	x.Stdout = &out
	err := withStderr(&x.Stderr, x.Run)
	return out.Bytes(), err
}

// CombinedOutput runs the process and returns what it wrote to Stdout and
// Stderr.
func (x *Exec) CombinedOutput() ([]byte, error) {
	if x.Stdout != nil || x.Stderr != nil {
		return nil, x.fail(errStream("Stdout or Stderr"))
	}
	var out bytes.Buffer
	x.Stdout, x.Stderr = &out, &out
	err := x.Run()
	return out.Bytes(), err
}
