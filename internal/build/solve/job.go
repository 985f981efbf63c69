package solve

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/amphora-go/amphora/internal/build/cache"
	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
)

// job resolves one vertex. What it sets is there for others once resolved is
// closed.
type job struct {
	b        *Build
	v        *op.Vertex
	resolved chan struct{}
	inputs   []*output
	outs     []*output
	err      error
	executed bool
	key      string // of the definition
}

// output is one result of a vertex.
type output struct {
	id string
	// layers returns the names of the layers, bottom to top, and makes what is
	// missing. It is called once at most.
	layers func() ([]string, error)
	// scan is what a build context holds, which is no layer.
	scan *scan
	// own is the layer on top that this operation wrote, if it was just now.
	own string
}

// lowers are the directories of the tree, topmost first.
func (b *Build) lowers(o *output) ([]string, error) {
	if o == nil {
		return nil, nil
	}
	if o.scan != nil {
		return o.scan.view()
	}
	layers, err := o.layers()
	if err != nil {
		return nil, err
	}
	return b.opts.Store.Lowers(layers)
}

// layersOf is o.layers for an output that may be scratch.
func layersOf(o *output) ([]string, error) {
	if o == nil {
		return nil, nil
	}
	return o.layers()
}

// input is the output that number i stands for; nil is scratch.
func (j *job) input(i int) *output {
	if i < 0 || i >= len(j.inputs) {
		return nil
	}
	return j.inputs[i]
}

func (o *output) identity() string {
	if o == nil {
		return "scratch"
	}
	return o.id
}

// resolve finds out what the vertex results in.
func (j *job) resolve(ctx context.Context) error {
	if err := j.await(ctx); err != nil {
		return err
	}
	var err error
	switch o := j.v.Op.(type) {
	case *op.Local:
		err = j.local(ctx, o)
	case *op.Image, *op.Layout:
		err = j.image(ctx)
	case *op.HTTP, *op.Git:
		err = j.fetched(ctx)
	case *op.Merge:
		j.merge()
	case *op.Diff:
		err = j.diff(ctx, o)
	case *op.File, *op.Exec:
		err = j.cacheable(ctx)
	default:
		err = fault.Unsupported("operation %T", o)
	}
	return j.wrap(err)
}

// wrap says which operation failed, unless an inner one said so already.
func (j *job) wrap(err error) error {
	var inner *Error
	if err == nil || errors.As(err, &inner) {
		return err
	}
	return &Error{Vertex: j.v, Err: err}
}

// await resolves the inputs, all at once, and returns with the first failure.
func (j *job) await(ctx context.Context) error {
	j.inputs = make([]*output, len(j.v.Inputs))
	g, ctx := errgroup.WithContext(ctx)
	for i, in := range j.v.Inputs {
		g.Go(func() (err error) {
			j.inputs[i], err = j.b.output(ctx, in)
			return err
		})
	}
	return g.Wait()
}

// cacheable resolves an operation that writes layers: from the cache, or by
// executing it.
func (j *job) cacheable(ctx context.Context) (err error) {
	if j.key, err = definition(j.v, j.inputs); err != nil {
		return err
	}
	if found, err := j.lookup(ctx, j.key); found || err != nil {
		return err
	}
	lock, err := j.b.opts.Cache.Lock(ctx, j.key)
	if err != nil {
		return err
	}
	defer lock.Release()
	// Whoever held the lock may have done all there is to do.
	if found, err := j.lookup(ctx, j.key); found || err != nil {
		return err
	}
	content, err := j.content(ctx)
	if err != nil {
		return err
	}
	if content != "" {
		if found, err := j.lookup(ctx, content); err != nil {
			return err
		} else if found {
			j.link(j.key)
			return nil
		}
	}
	if err := j.execute(ctx, nil); err != nil {
		return err
	}
	j.link(j.key)
	if content != "" {
		j.link(content)
	}
	return nil
}

// outputs is how many results the operation has.
func (j *job) outputs() int {
	e, ok := j.v.Op.(*op.Exec)
	if !ok {
		return 1
	}
	n := 0
	for _, m := range e.Mounts {
		n = max(n, m.Output+1)
	}
	return n
}

// base is what output i was laid over.
func (j *job) base(i int) *output {
	switch o := j.v.Op.(type) {
	case *op.File:
		return j.input(o.Base)
	case *op.Exec:
		for _, m := range o.Mounts {
			if m.Output == i {
				return j.input(m.Input)
			}
		}
	}
	return nil
}

// lookup asks the cache for all outputs by a key.
func (j *job) lookup(ctx context.Context, key string) (bool, error) {
	if j.v.NoCache {
		return false, nil
	}
	var outs []*output
	for i := range j.outputs() {
		id, ok, err := j.b.opts.Cache.Find(forOutput(key, i))
		if !ok && err == nil {
			id, ok, err = j.remotely(ctx, forOutput(key, i))
		}
		if !ok || err != nil {
			return false, err
		}
		if _, ok, err = j.b.opts.Cache.Get(id); !ok || err != nil {
			return false, err
		}
		outs = append(outs, j.output(i, id))
	}
	for i, o := range outs {
		j.b.knows.note(forOutput(key, i), o.id)
	}
	j.outs = outs
	return true, nil
}

// link lets the cache find the outputs by a key. What was copied from a build
// context counts only if that is still what was scanned: see Build.settle.
func (j *job) link(key string) {
	ids := make([]string, len(j.outs))
	for i, o := range j.outs {
		ids[i] = o.id
	}
	f := func() error {
		var errs error
		for i, id := range ids {
			j.b.knows.note(forOutput(key, i), id)
			errs = errors.Join(errs, j.b.opts.Cache.Link(forOutput(key, i), id))
		}
		return errs
	}
	if scans := j.scans(); len(scans) > 0 && j.executed {
		j.b.later(scans, f)
		return
	}
	if err := f(); err != nil {
		j.b.opts.Logger.Warn("build: a result is not kept for later", "step", j.v.Name, "err", err)
	}
}

// scans are the build contexts that the operation reads.
func (j *job) scans() (scans []*scan) {
	for _, in := range j.inputs {
		if in.scan != nil && !slices.Contains(scans, in.scan) {
			scans = append(scans, in.scan)
		}
	}
	return scans
}

// output is the result with that id.
func (j *job) output(i int, id string) *output {
	o := &output{id: id}
	j.b.use(id)
	o.layers = sync.OnceValues(func() ([]string, error) {
		below, err := layersOf(j.base(i))
		if err != nil {
			return nil, err
		}
		own, err := j.own(i, o)
		if err != nil {
			return nil, j.wrap(err)
		}
		return append(slices.Clip(below), own...), nil
	})
	return o
}

// own are the layers that output i adds to its base.
func (j *job) own(i int, o *output) ([]string, error) {
	if o.own != "" {
		return []string{o.own}, nil
	}
	ctx := j.b.ctx
	if layers, ok, err := j.present(ctx, o.id); ok || err != nil {
		return layers, err
	}
	lock, err := j.b.opts.Cache.Lock(ctx, j.key)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	if layers, ok, err := j.present(ctx, o.id); ok || err != nil {
		return layers, err
	}
	if layers, ok, err := j.fetch(ctx, o.id); ok || err != nil {
		return layers, err
	}
	<-j.resolved // so that j.outs are final; who asks has waited for it
	err = j.execute(ctx, j.outs)
	j.report(err)
	if err != nil {
		return nil, err
	}
	layers, ok, err := j.present(ctx, o.id)
	if err == nil && !ok {
		err = errors.New("the layer that was just made again is gone")
	}
	return layers, err
}

// present returns the layers of a record, and keeps them, if they are there.
func (j *job) present(ctx context.Context, id string) ([]string, bool, error) {
	r, ok, err := j.b.opts.Cache.Get(id)
	if !ok || err != nil {
		return nil, false, err
	}
	ok, err = j.b.opts.Cache.Present(ctx, j.b.lease, r.Layers)
	return r.Layers, ok, err
}

// execute does what the operation says. Its results get new ids, or keep those
// of known ones whose layers are gone.
func (j *job) execute(ctx context.Context, again []*output) error {
	j.executed = true
	switch o := j.v.Op.(type) {
	case *op.File:
		return j.file(ctx, o, again)
	case *op.Exec:
		return j.exec(ctx, o, again)
	}
	return nil
}

// begin waits for a turn to execute something. The inputs must be there: whoever
// has a turn waits for nobody.
func (j *job) begin(ctx context.Context) (end func(), err error) {
	select {
	case j.b.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	j.b.event(Event{Vertex: j.v, State: Started})
	return func() { <-j.b.slots }, nil
}

// keep publishes a layer and writes the record of the result.
func (j *job) keep(ctx context.Context, y *cache.Layer, i int, id, content string) (*output, error) {
	name, size, err := y.Publish(ctx, j.b.lease)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	r := &cache.Record{ID: id, Kind: j.v.Op.Kind(), Description: j.v.Name, Layers: []string{name}, Size: size, Created: now, Used: now, Content: content}
	if below := j.base(i); below != nil {
		r.Parents = []string{below.id}
	}
	if err := j.b.opts.Cache.Put(r); err != nil {
		return nil, err
	}
	o := j.output(i, id)
	o.own = name
	return o, nil
}

// use remembers that a record was of use.
func (b *Build) use(id string) {
	b.mu.Lock()
	b.used[id] = true
	b.mu.Unlock()
}
