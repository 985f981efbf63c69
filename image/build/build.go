package build

import (
	"context"
	"errors"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/fault"
)

// Options tune a Builder. The zero value is usable.
type Options struct {
	// Parallel is how many steps are executed at a time, in one build. 0: as
	// many as there are processors, four times.
	Parallel int
	// Helper is the program that is executed to supervise commands. "": this one.
	Helper string
	// CgroupParent is the control group below which commands run, as
	// amphora.Options has it.
	CgroupParent string
	// Logger receives what no caller waits for. Nil discards.
	Logger *slog.Logger
}

// Builder makes images. It holds nothing that would have to be closed. Safe for
// concurrent use; any number of builders, in any number of processes, may share
// a Root, and then they share what they build.
type Builder struct {
	images *image.Store
	opts   Options

	// connect gives a job its engine, and its session a working directory. done
	// gives them back.
	connect func(ctx context.Context, j *job) (done func() error, err error)
}

// New returns a builder that puts its images into a store, and takes base
// images from there. Nil options are valid.
func New(images *image.Store, opts *Options) (*Builder, error) {
	if images == nil {
		return nil, fault.New("build new", "", fault.Invalid("there is no image store"))
	}
	b := &Builder{images: images}
	if opts != nil {
		b.opts = *opts
	}
	b.connect = b.solve
	return b, nil
}

// Build makes an image, or whatever the request's outputs are. What other
// builds did already, in any process, is not done again. When ctx ends, running
// commands are killed and nothing is left but what the cache may use.
//
// The error is an *Error. It Is fs.ErrInvalid when the request or the
// Dockerfile is wrong, fs.ErrPermission when a command wants what Request.Allow
// does not list, errors.ErrUnsupported when the Dockerfile asks for another
// frontend or this machine lacks something.
func (b *Builder) Build(ctx context.Context, r *Request) (*Result, error) {
	var res *Result
	err := b.with(ctx, "build", r, func(j *job, f *frontend) error {
		c, err := f.convert(ctx)
		if err != nil {
			return err
		}
		if err := j.evaluate(ctx, c); err != nil {
			return err
		}
		res, err = j.output(ctx, c)
		return err
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// Lint checks a Dockerfile by BuildKit's rules, all of it unless the request
// names a target. Only Context, Dockerfile, Inline, Contexts, Target, Args,
// Platforms and Pull of the request matter. Base images are asked about, and
// nothing is built.
func (b *Builder) Lint(ctx context.Context, r *Request) (*LintResult, error) {
	var res *LintResult
	err := b.with(ctx, "lint", r, func(_ *job, f *frontend) (err error) {
		res, err = f.lint(ctx)
		return err
	})
	return res, err
}

// Outline says what a target can be given: arguments, secrets, agents.
func (b *Builder) Outline(ctx context.Context, r *Request) (*Outline, error) {
	var res *Outline
	err := b.with(ctx, "outline", r, func(_ *job, f *frontend) (err error) {
		res, err = f.outline(ctx)
		return err
	})
	return res, err
}

// Targets lists the stages of a Dockerfile.
func (b *Builder) Targets(ctx context.Context, r *Request) ([]Target, error) {
	var res []Target
	err := b.with(ctx, "targets", r, func(_ *job, f *frontend) (err error) {
		res, err = f.targets(ctx)
		return err
	})
	return res, err
}

// with does something with a Dockerfile.
func (b *Builder) with(ctx context.Context, operation string, r *Request, do func(*job, *frontend) error) (err error) {
	if err := ctx.Err(); err != nil {
		return &Error{Op: operation, Err: err}
	}
	j, err := newJob(r)
	if err != nil {
		return &Error{Op: operation, Err: err}
	}
	defer func() { err = failure(operation, err, j.graph.text) }()
	defer func() { err = errors.Join(err, j.Close()) }()
	done, err := b.connect(ctx, j)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	f, err := j.frontend(ctx)
	if err != nil {
		return err
	}
	return do(j, f)
}

// evaluate makes the trees of all platforms.
func (j *job) evaluate(ctx context.Context, c *conversion) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, t := range c.Targets {
		if t.Tree.Vertex != nil {
			group.Go(func() error { return j.engine.Evaluate(ctx, t.Tree) })
		}
	}
	return group.Wait()
}

// output brings what was made to where it is wanted.
func (j *job) output(ctx context.Context, c *conversion) (*Result, error) {
	res := &Result{}
	for _, t := range c.Targets {
		res.Platforms = append(res.Platforms, PlatformResult{Platform: platformText(t.Platform)})
	}
	if j.export != nil {
		var err error
		if res, err = j.export(ctx, c); err != nil {
			return nil, err
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	res.Syntax, res.Warnings = c.Syntax, j.warnings
	return res, nil
}
