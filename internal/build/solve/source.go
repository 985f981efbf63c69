package solve

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/amphora-go/amphora/internal/build/cache"
	"github.com/amphora-go/amphora/internal/build/file"
	"github.com/amphora-go/amphora/internal/build/local"
	"github.com/amphora-go/amphora/internal/build/op"
)

// scan is a build context as one filter shows it.
type scan struct {
	once     sync.Once
	err      error
	manifest *local.Manifest
	view     func() ([]string, error)
	linked   []func() error // guarded by Build.mu: links that wait for Build.settle
}

// scan looks at a build context, once for each filter.
func (b *Build) scan(ctx context.Context, o *op.Local) (*scan, error) {
	key, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	s := b.scans[string(key)]
	if s == nil {
		s = &scan{}
		b.scans[string(key)] = s
	}
	b.mu.Unlock()
	s.once.Do(func() {
		var dir *local.Dir
		if dir, s.err = b.opts.Sources.Local(ctx, o.Name); s.err != nil {
			return
		}
		s.manifest, s.err = dir.Scan(ctx, &local.Filter{Include: o.Include, Exclude: o.Exclude, Follow: o.Follow})
		s.view = sync.OnceValues(func() ([]string, error) { return s.manifest.View(b.lease) })
	})
	return s, s.err
}

// local resolves a build context.
func (j *job) local(ctx context.Context, o *op.Local) error {
	j.executed = true
	j.b.event(Event{Vertex: j.v, State: Started})
	s, err := j.b.scan(ctx, o)
	if err != nil {
		return err
	}
	out := &output{id: hash("local", string(s.manifest.Digest())), scan: s}
	out.layers = sync.OnceValues(func() ([]string, error) { return j.copied(out) })
	j.outs = []*output{out}
	return nil
}

// copied makes a layer of a build context that something is built upon.
func (j *job) copied(o *output) ([]string, error) {
	return j.layer(o.id, func(ctx context.Context, y *cache.Layer) error {
		lowers, err := o.scan.manifest.Rooted(j.b.lease)
		if err != nil {
			return err
		}
		all := &op.Copy{From: 0, Source: "/", Target: "/", Contents: true, MakeTarget: true}
		err = file.Do(ctx, &op.File{Base: op.Scratch, Actions: []op.Action{{Copy: all}}},
			&file.Options{Inputs: [][]string{lowers}, Upper: y.Upper, Work: y.Work})
		if err != nil {
			return err
		}
		if same, err := o.scan.manifest.Unchanged(ctx); err != nil || !same {
			return errors.Join(errors.New("the build context changed while it was copied: build again"), err)
		}
		return nil
	})
}

// image resolves an image: its reference says which.
func (j *job) image(context.Context) error {
	w, err := what(j.v)
	if err != nil {
		return err
	}
	o := &output{id: hash("image", w)}
	o.layers = sync.OnceValues(func() ([]string, error) {
		b := j.b
		manifest, layers, err := b.opts.Sources.Image(b.ctx, b.lease, j.v)
		if err != nil {
			return nil, j.wrap(err)
		}
		b.use(o.id)
		now := time.Now()
		err = b.opts.Cache.Put(&cache.Record{ID: o.id, Kind: j.v.Op.Kind(), Description: j.v.Name, Layers: layers, Image: string(manifest), Created: now, Used: now})
		return layers, err
	})
	j.outs = []*output{o}
	return nil
}

// fetched resolves what is downloaded.
func (j *job) fetched(ctx context.Context) error {
	identity, err := j.b.opts.Sources.Identify(ctx, j.v)
	if err != nil {
		return err
	}
	o := &output{id: hash(j.v.Op.Kind(), identity)}
	o.layers = sync.OnceValues(func() ([]string, error) {
		return j.layer(o.id, func(ctx context.Context, y *cache.Layer) error {
			return j.b.opts.Sources.Fetch(ctx, j.v, y.Upper)
		})
	})
	j.outs = []*output{o}
	return nil
}

// layer returns the layer of a result that its id describes wholly, filling it
// if it is missing.
func (j *job) layer(id string, fill func(context.Context, *cache.Layer) error) (_ []string, err error) {
	ctx := j.b.ctx
	defer func() { err = j.wrap(err) }()
	if layers, ok, err := j.present(ctx, id); ok || err != nil {
		j.b.use(id)
		return layers, err
	}
	lock, err := j.b.opts.Cache.Lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	if layers, ok, err := j.present(ctx, id); ok || err != nil {
		j.b.use(id)
		return layers, err
	}
	end, err := j.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	y, err := j.b.opts.Cache.NewLayer(j.b.lease)
	if err != nil {
		return nil, err
	}
	if err := fill(ctx, y); err != nil {
		return nil, errors.Join(err, y.Discard())
	}
	o, err := j.keep(ctx, y, 0, id, "")
	if err != nil {
		return nil, errors.Join(err, y.Discard())
	}
	return []string{o.own}, nil
}

// later links keys once it is known that the contexts did not change while
// they were read.
func (b *Build) later(scans []*scan, link func() error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := scans[0]
	s.linked = append(s.linked, func() error {
		for _, s := range scans[1:] {
			if same, err := s.manifest.Unchanged(context.WithoutCancel(b.ctx)); !same || err != nil {
				return err
			}
		}
		return link()
	})
}

// settle keeps what was read of contexts that are still what they were. A
// result that was copied while somebody wrote there is used by this build, as
// it was copied, and forgotten.
func (b *Build) settle(ctx context.Context) (err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.scans {
		links := slices.Clip(s.linked)
		s.linked = nil
		if len(links) == 0 {
			continue
		}
		if same, e := s.manifest.Unchanged(ctx); !same || e != nil {
			err = errors.Join(err, e)
			continue
		}
		for _, link := range links {
			err = errors.Join(err, link())
		}
	}
	return err
}
