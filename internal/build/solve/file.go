package solve

import (
	"context"
	"errors"

	"github.com/amphora-go/amphora/internal/build/file"
	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/build/tree"
)

// file executes a file operation and finds out whether the same has been
// written over the same base before.
func (j *job) file(ctx context.Context, f *op.File, again []*output) (err error) {
	o := &file.Options{Inputs: make([][]string, len(j.inputs)), Rooted: make([]bool, len(j.inputs))}
	for i, in := range j.inputs {
		// On the host, the files of a build context belong to whoever develops there.
		o.Rooted[i] = in.scan != nil
		if o.Inputs[i], err = j.b.lowers(j.inputs[i]); err != nil {
			return err
		}
	}
	end, err := j.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	y, err := j.b.opts.Cache.NewLayer(j.b.lease)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, y.Discard())
		}
	}()
	o.Upper, o.Work = y.Upper, y.Work
	if err := file.Do(ctx, f, o); err != nil {
		return err
	}
	if base := j.input(f.Base); base != nil {
		if err := settle(ctx, y.Upper, o.Inputs[f.Base]); err != nil {
			return err
		}
	}
	written, err := tree.Digest(ctx, y.Upper)
	if err != nil {
		return err
	}
	id := hash("file", j.input(f.Base).identity(), string(written))
	if again != nil {
		id = again[0].id
	} else if _, ok, err := j.present(ctx, id); err != nil {
		return err
	} else if ok {
		j.outs = []*output{j.output(0, id)}
		return y.Discard()
	}
	out, err := j.keep(ctx, y, 0, id, string(written))
	if err == nil && again == nil {
		j.outs = []*output{out}
	}
	return err
}
