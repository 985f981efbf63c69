package solve

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/amphora-go/amphora/internal/build/cache"
	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
)

// merge lays the inputs over each other.
func (j *job) merge() {
	ids := []string{"merge"}
	for _, in := range j.inputs {
		ids = append(ids, in.id)
	}
	o := &output{id: hash(ids...)}
	o.layers = sync.OnceValues(func() (all []string, err error) {
		for i, in := range j.inputs {
			layers, err := in.layers()
			if err == nil && i > 0 {
				err = j.addsOnly(layers)
			}
			if err != nil {
				return nil, j.wrap(err)
			}
			all = append(all, layers...)
		}
		return unique(all), nil
	})
	j.outs = []*output{o}
}

// addsOnly refuses layers that delete something: over a tree that lacks the
// directory, an overlay lists the names of what they delete. Dockerfiles merge
// only what COPY --link made of nothing.
func (j *job) addsOnly(layers []string) error {
	for _, l := range layers {
		deleted, err := deletes(j.b.opts.Store.LayerDir(l))
		if err != nil {
			return err
		}
		if deleted != "" {
			return fault.Unsupported("a tree in which %s was deleted cannot be merged over another: copy from it", deleted)
		}
	}
	return nil
}

// unique drops all but the topmost of equal layers: overlays refuse a directory
// that occurs twice, and what a layer says counts where it lies highest.
func unique(layers []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, l := range slices.Backward(layers) {
		if !seen[l] {
			seen[l] = true
			out = append(out, l)
		}
	}
	slices.Reverse(out)
	return out
}

// diff is what the upper input adds to the lower one. Where the one was built
// upon the other these are its layers; else the trees are compared.
func (j *job) diff(_ context.Context, d *op.Diff) error {
	lower, upper := j.input(d.Lower), j.input(d.Upper)
	if upper == nil {
		return errors.New("nothing to take a difference of")
	}
	o := &output{id: hash("diff", lower.identity(), upper.id)}
	o.layers = sync.OnceValues(func() ([]string, error) {
		below, err := layersOf(lower)
		if err != nil {
			return nil, err
		}
		layers, err := upper.layers()
		if err != nil {
			return nil, err
		}
		if len(below) <= len(layers) && slices.Equal(below, layers[:len(below)]) {
			return layers[len(below):], nil
		}
		return j.layer(o.id, func(ctx context.Context, y *cache.Layer) error {
			from, err := j.b.lowers(lower)
			if err != nil {
				return err
			}
			to, err := j.b.lowers(upper)
			if err != nil {
				return err
			}
			return difference(ctx, from, to, y.Upper)
		})
	})
	j.outs = []*output{o}
	return nil
}
