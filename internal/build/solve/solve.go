// Package solve works off the graph of a build: it finds out which results the
// cache has, executes what is missing, each operation once in all processes,
// and hands out the trees.
//
// # Identity
//
// A result is known by its id, and whatever else is asked about it is asked by
// that id:
//
//	image            the manifest's digest and the platform
//	local            what the filtered directory holds
//	http, git        the content, the commit
//	file             the base's id and the hash of what was written over it
//	exec             drawn when the command is executed
//	merge, diff      the ids of the inputs
//
// The cache maps keys to ids. The key of an operation is the hash of what it
// is and of the ids of its inputs (its definition), so a graph that was built
// before is found without looking at a single file of it. Where the definition
// is new a second key is tried that looks at content: of what a COPY selects
// of a build context, of what a command sees through its read-only mounts. And
// what a file operation wrote is hashed: if an earlier one has written the same
// over the same base, that one's result is used, so nothing above is executed.
//
// A result that is known need not be there: its layers may have been pruned.
// They are made again when something must look into them, which for most
// results of an unchanged build is never.
package solve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/build/cache"
	"github.com/amphora-go/amphora/internal/build/local"
	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/build/run"
	"github.com/amphora-go/amphora/internal/store"
)

// Options say what a build works with.
type Options struct {
	Store  *store.Store
	Cache  *cache.Cache
	Runner Runner
	// Sources provides what operations without inputs name.
	Sources Sources
	// Secrets returns the value of a secret, Agent the path of an agent's
	// socket; false and "": the caller of the build gave none.
	Secrets func(ctx context.Context, id string) ([]byte, bool, error)
	Agent   func(ctx context.Context, id string) (socket string, err error)
	// Remote, if not nil, is a cache elsewhere.
	Remote Remote
	// Parallel bounds how many operations are executed at once; zero means
	// four for each processor: commands wait for networks and disks.
	Parallel int
	// Events, if not nil, is told what goes on, one call at a time.
	Events func(Event)
	Logger *slog.Logger // nil: discard
}

// Runner executes commands: a run.Runner.
type Runner interface {
	Run(ctx context.Context, s *run.Step) error
}

// Sources gives what comes from outside of the build. The layers and files it
// returns are kept by the lease, or by the caller of the build.
type Sources interface {
	// Image returns the layers of an image, bottom to top, and the digest of
	// its manifest, and keeps them by the lease.
	Image(ctx context.Context, l *store.Lease, v *op.Vertex) (manifest digest.Digest, layers []string, err error)
	// Local returns the directory of a build context.
	Local(ctx context.Context, name string) (*local.Dir, error)
	// Identify says what fetching would give, without fetching more than it
	// must. Fetch puts it into a directory.
	Identify(ctx context.Context, v *op.Vertex) (string, error)
	Fetch(ctx context.Context, v *op.Vertex, into string) error
}

// Build is one build. Vertices that mean the same are worked off once in it.
// It is safe for concurrent use.
type Build struct {
	opts   Options
	lease  *store.Lease
	ctx    context.Context // ends with Close
	cancel context.CancelCauseFunc
	slots  chan struct{} // a token for each operation that is executed
	jobs   sync.WaitGroup
	events sync.Mutex // held while Options.Events runs
	knows  known

	mu     sync.Mutex // guards what follows
	known  map[string]*job
	keys   map[*op.Vertex]string
	scans  map[string]*scan
	used   map[string]bool // ids of records
	closed bool
}

// settleTimeout bounds what a build does after its end: another look at its
// contexts.
const settleTimeout = 30 * time.Second

var errClosed = errors.New("the build is over")

// New begins a build. It must be closed.
func New(ctx context.Context, opts *Options) (*Build, error) {
	l, err := opts.Store.Lease(ctx)
	if err != nil {
		return nil, err
	}
	b := &Build{opts: *opts, lease: l, known: map[string]*job{}, keys: map[*op.Vertex]string{}, scans: map[string]*scan{}, used: map[string]bool{}}
	if b.opts.Logger == nil {
		b.opts.Logger = slog.New(slog.DiscardHandler)
	}
	if b.opts.Parallel <= 0 {
		b.opts.Parallel = 4 * runtime.NumCPU()
	}
	b.slots = make(chan struct{}, b.opts.Parallel)
	b.ctx, b.cancel = context.WithCancelCause(ctx)
	return b, nil
}

// Lease keeps what the build's results consist of, until Close.
func (b *Build) Lease() *store.Lease { return b.lease }

// Close ends what is still being executed, waits for it, and gives up what the
// build kept. What of its results is not kept for the next build is logged. It
// is idempotent.
func (b *Build) Close() error {
	b.mu.Lock()
	closed := b.closed
	b.closed = true
	var used []string
	for id := range b.used {
		used = append(used, id)
	}
	b.mu.Unlock()
	if closed {
		return nil
	}
	b.cancel(errClosed)
	b.jobs.Wait()
	ctx, stop := context.WithTimeout(context.WithoutCancel(b.ctx), settleTimeout)
	defer stop()
	if err := errors.Join(b.settle(ctx), b.opts.Cache.Touch(used...)); err != nil {
		b.opts.Logger.Warn("build: not all results are kept for later", "err", err)
	}
	return b.lease.Close()
}

// Solve finds the result of a graph, executing what must be, and returns once
// it is known. Its layers may be missing still: see Result.
func (b *Build) Solve(ctx context.Context, root op.Input) (*Result, error) {
	if root.Vertex == nil {
		return &Result{b: b}, nil
	}
	o, err := b.output(ctx, root)
	if err != nil {
		return nil, err
	}
	return &Result{b: b, o: o}, nil
}

// output waits for a vertex to be resolved.
func (b *Build) output(ctx context.Context, in op.Input) (*output, error) {
	j, err := b.job(in.Vertex)
	if err != nil {
		return nil, err
	}
	select {
	case <-j.resolved:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if j.err != nil {
		return nil, j.err
	}
	if in.Index < 0 || in.Index >= len(j.outs) {
		return nil, fmt.Errorf("%s has no output %d", in.Vertex.Name, in.Index)
	}
	return j.outs[in.Index], nil
}

// job returns the job that resolves v, and starts it if it is new.
func (b *Build) job(v *op.Vertex) (*job, error) {
	key, err := b.structure(v)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if j := b.known[key]; j != nil {
		return j, nil
	}
	if b.closed {
		return nil, errClosed
	}
	j := &job{b: b, v: v, resolved: make(chan struct{})}
	b.known[key] = j
	b.jobs.Go(func() {
		defer close(j.resolved)
		j.err = j.resolve(b.ctx)
		j.report(j.err)
	})
	return j, nil
}

// Error is an operation that failed.
type Error struct {
	Vertex *op.Vertex
	Err    error
}

func (e *Error) Error() string { return e.Vertex.Name + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
