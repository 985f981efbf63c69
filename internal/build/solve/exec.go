package solve

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/amphora-go/amphora/internal/build/cache"
	"github.com/amphora-go/amphora/internal/build/file"
	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/build/run"
)

// execution is a command that is being prepared, with all that must be given
// up after it.
type execution struct {
	j      *job
	op     *op.Exec
	step   *run.Step
	layers map[int]*cache.Layer // by output
	lowers map[int][]string     // by output: what the layer lies upon
	dirs   map[string]*cache.Dir
}

// exec runs a command. Its results are what it is executed for, so they get
// ids that are drawn.
func (j *job) exec(ctx context.Context, e *op.Exec, again []*output) (err error) {
	x := &execution{j: j, op: e, layers: map[int]*cache.Layer{}, lowers: map[int][]string{}, dirs: map[string]*cache.Dir{}}
	defer func() { err = errors.Join(err, x.close(err != nil)) }()
	if err := x.prepare(ctx); err != nil {
		return err
	}
	end, err := j.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := j.b.opts.Runner.Run(ctx, x.step); err != nil {
		return err
	}
	outs := make([]*output, j.outputs())
	for i := range outs {
		id := rand256()
		if again != nil {
			id = again[i].id
		}
		y := x.layers[i]
		if y == nil {
			return errors.New("no mount gives the output that the command is executed for")
		}
		if len(x.lowers[i]) > 0 {
			if err := settle(ctx, y.Upper, x.lowers[i]); err != nil {
				return err
			}
		}
		if outs[i], err = j.keep(ctx, y, i, id, ""); err != nil {
			return err
		}
		delete(x.layers, i)
	}
	if again == nil {
		j.outs = outs
	}
	return nil
}

// prepare makes sure that all is there that the command needs: it must wait
// for nothing once it has its turn.
func (x *execution) prepare(ctx context.Context) error {
	b := x.j.b
	x.step = &run.Step{Exec: x.op, Limits: x.j.v.Limits, Platform: x.j.v.Platform, Secrets: b.opts.Secrets, Agent: b.opts.Agent,
		Output: func(stderr bool, p []byte) {
			b.event(Event{Vertex: x.j.v, State: Log, Stderr: stderr, Data: slices.Clone(p)})
		}}
	// First what others may have to be executed for again: with the directory of
	// a cache mount in hand we would wait for one who waits for us.
	for _, in := range x.j.inputs {
		if in.scan == nil {
			if _, err := in.layers(); err != nil {
				return err
			}
		}
	}
	if err := x.caches(ctx); err != nil {
		return err
	}
	for _, m := range x.op.Mounts {
		mount, err := x.mount(&m)
		if err != nil {
			return err
		}
		if m.Target == "/" {
			x.step.Root, x.step.Layer = mount.Tree, mount.Layer
		} else {
			x.step.Mounts = append(x.step.Mounts, mount)
		}
	}
	return nil
}

func (x *execution) mount(m *op.Mount) (r run.Mount, err error) {
	j := x.j
	switch m.Type {
	case op.Cache:
		r.Dir = x.dirs[m.CacheID].Path()
		return r, nil
	case op.Bind:
	default:
		return r, nil
	}
	in := j.input(m.Input)
	switch {
	case in == nil:
	case in.scan != nil && m.Target != "/" && m.Output == op.Scratch:
		r.Tree.Lower, err = in.scan.manifest.Rooted(j.b.lease)
	default:
		r.Tree.Layers, err = in.layers()
	}
	if err != nil || m.Output == op.Scratch {
		return r, err
	}
	y, err := j.b.opts.Cache.NewLayer(j.b.lease)
	if err != nil {
		return r, err
	}
	x.layers[m.Output] = y
	r.Layer = &run.Layer{Upper: y.Upper, Work: y.Work}
	x.lowers[m.Output], err = j.b.lowers(in)
	return r, err
}

// caches takes the directories of cache mounts, in one order for all commands:
// two that wait for each other's locked directories would wait for ever.
func (x *execution) caches(ctx context.Context) error {
	var mounts []op.Mount
	for _, m := range x.op.Mounts {
		if m.Type == op.Cache {
			mounts = append(mounts, m)
		}
	}
	slices.SortFunc(mounts, func(a, b op.Mount) int { return strings.Compare(a.CacheID, b.CacheID) })
	for _, m := range mounts {
		if x.dirs[m.CacheID] != nil {
			continue
		}
		d, err := x.j.b.opts.Cache.Dir(ctx, m.CacheID, m.Sharing, func(dir string) error { return x.seed(ctx, &m, dir) })
		if err != nil {
			return err
		}
		x.dirs[m.CacheID] = d
	}
	return nil
}

// seed fills a cache mount that is new from the tree that the mount names.
func (x *execution) seed(ctx context.Context, m *op.Mount, dir string) error {
	lowers, err := x.j.b.lowers(x.j.input(m.Input))
	if lowers == nil || err != nil {
		return err
	}
	from := m.Selector
	if from == "" {
		from = "/"
	}
	c := &op.Copy{From: 0, Source: from, Target: "/", Contents: true, MakeTarget: true}
	return file.Do(ctx, &op.File{Base: op.Scratch, Actions: []op.Action{{Copy: c}}}, &file.Options{Inputs: [][]string{lowers}, Upper: dir})
}

// close gives up what the command had.
func (x *execution) close(failed bool) (err error) {
	for _, y := range x.layers {
		if failed {
			err = errors.Join(err, y.Discard())
		}
	}
	for _, d := range x.dirs {
		err = errors.Join(err, d.Close())
	}
	return err
}

func rand256() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
