package container

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/recovery"
	"github.com/amphora-go/amphora/internal/shim"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// LabelCmd marks the containers that a Cmd made.
const LabelCmd = "amphora.cmd"

// LabelBuild marks the containers in which commands of builds run.
const LabelBuild = record.LabelBuild

// Cmd runs one command in a container of its own, used as an os/exec.Cmd:
// fill it in, then Run, Output, or Start and Wait. The container is owned by
// this Engine, so it ends with this program, and Wait removes it unless Keep
// is set. A Cmd cannot be reused.
type Cmd struct {
	Spec

	// Streams; nil is /dev/null. What is read and written here is lossless,
	// and slows the container down if this program is slow.
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	// Cancel is called when the context of Command ends while the container
	// runs; nil kills it.
	Cancel func() error
	// WaitDelay bounds the time between the container's end and the end of its
	// output; 0: no bound.
	WaitDelay time.Duration
	// Keep leaves the container in the store after its end.
	Keep bool
	// Customize is as in CreateOptions.
	Customize func(*specs.Spec) error
	// Pull says when Engine.Command's image is pulled; empty: PullMissing.
	Pull PullPolicy
	// Prepare runs before the container is created, for example to pull the
	// image. Engine.Command sets it.
	Prepare func(ctx context.Context) error

	// Container is set by Start.
	Container *Container

	m       *Manager
	ctx     context.Context
	started *shim.Started
	joints  *joints
	stop    func() bool
	mu      sync.Mutex // guards cancel
	cancel  error
}

// PullPolicy says when an image is fetched from its registry.
type PullPolicy string

const (
	PullMissing PullPolicy = "missing" // when the store does not have it
	PullAlways  PullPolicy = "always"
	PullNever   PullPolicy = "never"
)

// Command describes a container that runs arg in an image. When ctx ends the
// container is killed. Without arg it runs what the image says.
func (m *Manager) Command(ctx context.Context, image string, arg ...string) *Cmd {
	c := &Cmd{m: m, ctx: ctx}
	c.Image, c.Spec.Command = image, arg
	return c
}

func (c *Cmd) fail(err error) error {
	name := c.Image + c.Rootfs
	if c.Container != nil {
		name = record.Short(c.Container.id)
	}
	return fault.New("container run", name, err)
}

// Start creates the container and starts it.
func (c *Cmd) Start() error {
	if c.Container != nil {
		return c.fail(errors.New("it was started already"))
	}
	if c.Prepare != nil {
		if err := c.Prepare(c.ctx); err != nil {
			return c.fail(err)
		}
	}
	spec := c.Spec
	spec.AutoRemove = !c.Keep
	spec.Labels = map[string]string{LabelCmd: "true"}
	for k, v := range c.Spec.Labels {
		spec.Labels[k] = v
	}
	if c.Stdin != nil {
		spec.Process.Stdin, spec.StdinOnce = true, true
	}
	ct, err := c.m.Create(c.ctx, &spec, &CreateOptions{Owned: true, Customize: c.Customize})
	if err != nil {
		return c.fail(err)
	}
	stderr := c.Stderr
	if spec.TTY {
		stderr = nil
	}
	j, err := join(c.Stdin, c.Stdout, stderr)
	if err == nil {
		if c.started, err = ct.start(c.ctx, j.theirs[0], j.theirs[1], j.theirs[2]); err != nil {
			j.close()
		}
	}
	if err != nil {
		// After a failed start the supervisor has removed it already.
		ctx := context.WithoutCancel(c.ctx)
		if rerr := ct.Remove(ctx, &RemoveOptions{Force: true, Volumes: true}); !c.Keep && rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
		return c.fail(err)
	}
	j.handed()
	c.Container, c.joints = ct, j
	c.stop = context.AfterFunc(c.ctx, c.canceled)
	return nil
}

func (c *Cmd) canceled() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel = c.ctx.Err()
	if c.Cancel == nil {
		ctx, done := context.WithTimeout(context.WithoutCancel(c.ctx), 10*time.Second)
		defer done()
		c.Container.Signal(ctx, "SIGKILL")
		return
	}
	switch err := c.Cancel(); {
	case errors.Is(err, os.ErrProcessDone):
		c.cancel = nil
	case err != nil:
		c.cancel = err
	}
}

// Wait waits for the container and its output to end, and for its removal. An
// end that was not clean is an *ExitError.
func (c *Cmd) Wait() error {
	if c.started == nil {
		return c.fail(errors.New("it was not started"))
	}
	ctx := context.WithoutCancel(c.ctx)
	exit, err := c.started.Wait(ctx)
	c.stop()
	if err == nil {
		err = c.started.WaitRemoved(ctx)
	} else if errors.Is(err, io.ErrUnexpectedEOF) {
		exit, err = c.lost(ctx)
	}
	c.started.Close()
	werr := c.joints.wait(c.WaitDelay)
	c.mu.Lock()
	canceled := c.cancel
	c.mu.Unlock()
	switch {
	case err != nil:
		return c.fail(err)
	case canceled != nil && (exit.Code != 0 || c.Cancel != nil): // else it was faster than our kill
		return c.fail(stopped(canceled, newExit(exit)))
	case exit.Code != 0:
		return c.fail(&ExitError{Exit: *newExit(exit)})
	}
	return werr
}

// lost finds out what became of a container whose supervisor was killed.
func (c *Cmd) lost(ctx context.Context) (*record.Exit, error) {
	s, err := recovery.Judge(ctx, c.m.root, c.Container.id)
	if err == nil && s.Exit != nil {
		return s.Exit, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return &record.Exit{Code: 137, Unknown: true, Error: "the container's supervisor was killed"}, nil
}

// Run starts the container and waits for it.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the container and returns what it wrote to its standard output.
// An *ExitError has what it wrote to Stderr, if that was not set.
func (c *Cmd) Output() ([]byte, error) {
	if c.Stdout != nil {
		return nil, c.fail(errStream("Stdout"))
	}
	var out bytes.Buffer
	c.Stdout = &out
	err := withStderr(&c.Stderr, c.Run)
	return out.Bytes(), err
}

// CombinedOutput runs the container and returns its standard output and error.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	if c.Stdout != nil || c.Stderr != nil {
		return nil, c.fail(errStream("Stdout or Stderr"))
	}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}
