package solve

import (
	"context"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/overlay"
	"github.com/amphora-go/amphora/internal/rootdir"
)

// Result is the tree that a graph results in. It is valid until the build is
// closed.
type Result struct {
	b *Build
	o *output // nil: empty
}

// ID identifies the tree: equal ids are equal trees.
func (r *Result) ID() string { return r.o.identity() }

// Layers returns the names of its layers in the store, bottom to top, and
// makes what is missing. The build's lease keeps them.
func (r *Result) Layers(context.Context) ([]string, error) { return layersOf(r.o) }

// Open opens the tree for reading. An empty one is fs.ErrNotExist.
func (r *Result) Open(context.Context) (*rootdir.Dir, error) {
	lowers, err := r.b.lowers(r.o)
	if err != nil {
		return nil, err
	}
	if len(lowers) == 0 {
		return nil, fault.NotExist("the tree is empty")
	}
	f, err := overlay.Open(overlay.Layers{Lower: lowers})
	if err != nil {
		return nil, err
	}
	return rootdir.New(f), nil
}
