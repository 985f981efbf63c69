// Package run executes the commands of builds: each in a container of its own,
// with the security, networks, supervisor and recovery of all containers, but
// without a name and without a trace: it ends with this process, and what the
// command changed goes into the layers that the caller gives.
//
// The program mounts nothing. The supervisor does, in a mount namespace of its
// own, and lets go of every layer before it tells the end.
package run

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/cgroup"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/recovery"
	"github.com/amphora-go/amphora/internal/shim"
	"github.com/amphora-go/amphora/internal/step"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Runner runs commands in containers of one Root. It is safe for concurrent
// use.
type Runner struct {
	root     *record.Root
	launcher shim.Launcher
	opts     Options

	mu    sync.Mutex // guards what follows
	base  string     // control group of the Root, once it is known
	owner *shim.Owner
}

// Options configure a Runner.
type Options struct {
	Helper       string // program re-executed for supervisors; empty: this one
	CgroupParent string // control group below which the Root's own is made; empty: the one this process was given
}

// New makes a Runner. It does no I/O. Its user closes it.
func New(root *record.Root, opts *Options) *Runner {
	if opts == nil {
		opts = &Options{}
	}
	return &Runner{root: root, launcher: &shim.Process{Helper: opts.Helper}, opts: *opts}
}

// Close ends the commands that still run. It is idempotent.
func (r *Runner) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.base != "" {
		if l, err := flock.Try(r.root.GroupLock(), flock.Exclusive); err == nil {
			cgroup.RemoveIdle(r.base)
			l.Release()
		}
	}
	err := r.owner.Close()
	r.owner = nil
	return err
}

// Step is one command with all that it gets.
type Step struct {
	Exec     *op.Exec
	Limits   *op.Limits
	Platform ocispec.Platform // zero: this machine's

	Root   Tree    // that the command runs in: what is mounted at /
	Layer  *Layer  // takes what the command changes there; nil: it is thrown away
	Mounts []Mount // one for each of Exec.Mounts but that at /, in their order

	// Secrets returns a secret; false: there is none of that id.
	Secrets func(ctx context.Context, id string) ([]byte, bool, error)
	// Agent returns the path of an agent's socket; empty: there is none of that
	// id.
	Agent func(ctx context.Context, id string) (socket string, err error)
	// Output gets what the command writes, one call after the other. A slow one
	// slows the command down. p is valid during the call.
	Output func(stderr bool, p []byte)
}

// Tree is a tree of files. The zero one is empty.
type Tree struct {
	Layers []string // names of layers of the store, bottom to top
	Lower  []string // instead: absolute directories, topmost first
}

// Layer takes changes, in the form of an overlay. Both directories are on the
// file system of the store; they need not exist, and Upper, if it does, is
// empty.
type Layer struct{ Upper, Work string }

// Mount is what one of Exec.Mounts is made of.
type Mount struct {
	Tree  Tree   // of a bind
	Layer *Layer // of a bind whose changes are wanted
	Dir   string // of a cache
}

// ExitError is a command that failed.
type ExitError struct {
	Args      []string
	Code      int  // 128+n for signal n; 126 and 127 for a command that cannot be executed or is not there
	OOMKilled bool // the kernel killed it, or a child of it, for want of memory
	Err       error
}

// Run executes the command. A failing one is an *ExitError; one of ctx's
// errors says that it was killed because ctx ended. When Run returns nothing
// uses the layers any more, whatever it returns; after an error what they hold
// is worth nothing.
func (r *Runner) Run(ctx context.Context, s *Step) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := r.compile(ctx, s)
	if err != nil {
		return err
	}
	exit, err := r.run(ctx, c)
	if err == nil && ctx.Err() != nil && exit.Code != 0 {
		return ctx.Err()
	}
	var start *shim.StartError
	switch {
	case ctx.Err() != nil && err != nil:
		return ctx.Err()
	case errors.As(err, &start) && start.Code > 125:
		return &ExitError{Args: s.Exec.Args, Code: start.Code, Err: start.Err}
	case err != nil:
		return err
	case s.accepts(exit.Code):
		return nil
	}
	e := &ExitError{Args: s.Exec.Args, Code: exit.Code, OOMKilled: exit.OOMKilled}
	if exit.Unknown {
		e.Err = errors.New(exit.Error)
	}
	return e
}

// run makes the container, runs it to its end and sees it removed.
func (r *Runner) run(ctx context.Context, c *compiled) (_ *record.Exit, err error) {
	l, err := r.root.Create(ctx, c.rec, c.cfg, []byte("{}"))
	if err != nil {
		return nil, err
	}
	step.At("run.created")
	id := c.rec.ID
	defer func() {
		if err != nil {
			err = errors.Join(err, r.drop(context.WithoutCancel(ctx), id))
		}
	}()
	alive, err := r.root.TryAlive(id)
	l.Release()
	if err != nil {
		return nil, err
	}
	defer alive.Release()
	agents, err := r.serveAgents(id, c.agents)
	defer agents.close()
	if err != nil {
		return nil, err
	}
	out, err := newOutput(c.step.Output)
	if err != nil {
		return nil, err
	}
	started, err := r.launch(ctx, c, alive.File(), out)
	// With our copy a supervisor that is killed would look alive, to us as well.
	alive.Release()
	if err != nil {
		out.close()
		return nil, err
	}
	defer started.Close()
	out.handed()
	stop := context.AfterFunc(ctx, func() { r.kill(id) })
	defer stop()
	return r.wait(context.WithoutCancel(ctx), id, started, out)
}

func (r *Runner) launch(ctx context.Context, c *compiled, alive *os.File, out *output) (*shim.Started, error) {
	owner, err := r.ownerFiles()
	if err != nil {
		return nil, err
	}
	hold, err := flock.Acquire(ctx, r.root.GroupLock(), flock.Shared)
	if err != nil {
		return nil, fault.Opaque(err)
	}
	defer hold.Release()
	return r.launcher.Launch(ctx, &shim.LaunchOptions{Root: r.root, ID: c.rec.ID, Base: c.base, Alive: alive, Owners: owner,
		Stdout: out.theirs[0], Stderr: out.theirs[1], Secrets: c.secrets})
}

// wait returns once the container is gone and its output was delivered.
func (r *Runner) wait(ctx context.Context, id string, started *shim.Started, out *output) (*record.Exit, error) {
	exit, err := started.Wait(ctx)
	if err == nil {
		step.At("run.ended")
		err = started.WaitRemoved(ctx)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		exit, err = r.lost(ctx, id)
	}
	out.wait()
	return exit, err
}

// lost finds out what became of a container whose supervisor was killed.
func (r *Runner) lost(ctx context.Context, id string) (*record.Exit, error) {
	if err := r.drop(ctx, id); err != nil {
		return nil, err
	}
	return &record.Exit{Code: 137, Unknown: true, Error: "the container's supervisor was killed"}, nil
}

// drop sees to it that a container that does not run is gone.
func (r *Runner) drop(ctx context.Context, id string) error {
	_, err := recovery.Judge(ctx, r.root, id) // one that failed to start, or was lost
	if err == nil {
		err = r.remove(ctx, id) // one that was never started
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (r *Runner) remove(ctx context.Context, id string) error {
	alive, err := r.root.Alive(ctx, id)
	if err != nil {
		return err
	}
	defer alive.Release()
	l, err := r.root.Lock(ctx, id)
	if err != nil {
		return err
	}
	defer l.Release()
	c, err := r.root.Load(id)
	if err != nil {
		return err
	}
	empty, err := recovery.Remove(ctx, r.root, c, true)
	if err != nil {
		return err
	}
	return empty()
}

// kill ends a running container.
func (r *Runner) kill(id string) {
	ctx, done := context.WithTimeout(context.Background(), 10*time.Second)
	defer done()
	client, err := shim.Dial(ctx, r.root, id)
	if err != nil {
		return // it has ended
	}
	defer client.Close()
	client.Signal(ctx, 9)
}

func (r *Runner) ownerFiles() ([]*os.File, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.owner == nil {
		o, err := shim.NewOwner()
		if err != nil {
			return nil, err
		}
		r.owner = o
	}
	return r.owner.Files(), nil
}

// group is the control group of the Root.
func (r *Runner) group() (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.base == "" {
		base, err := cgroup.Base(r.opts.CgroupParent, r.root.ID)
		if err != nil {
			return "", err
		}
		r.base = base
	}
	return r.base, nil
}
