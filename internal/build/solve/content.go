package solve

import (
	"context"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/build/tree"
)

// content is a second key of an operation, by what it sees instead of by what
// its inputs are: a build context that changed elsewhere leaves it the same.
// It is "" where the definition says as much.
func (j *job) content(ctx context.Context) (string, error) {
	if j.v.NoCache {
		return "", nil
	}
	w, err := what(j.v)
	if err != nil {
		return "", err
	}
	var parts []string
	switch o := j.v.Op.(type) {
	case *op.File:
		parts = j.selected(o)
	case *op.Exec:
		parts, err = j.mounted(ctx, o)
	}
	if parts == nil || err != nil {
		return "", err
	}
	return hash(append([]string{"content", w}, parts...)...), nil
}

// selected is what a file operation takes from build contexts, and the ids of
// its other inputs. It is nil if that cannot be told without copying.
func (j *job) selected(f *op.File) []string {
	parts := make([]string, len(j.inputs))
	var contexts bool
	for i, in := range j.inputs {
		if in.scan != nil && i != f.Base && !named(f, i) {
			contexts = true
		} else {
			parts[i] = in.id
		}
	}
	if !contexts {
		return nil
	}
	for _, a := range f.Actions {
		if a.Copy == nil || j.input(a.Copy.From) == nil || parts[a.Copy.From] != "" {
			continue
		}
		d, ok := j.inputs[a.Copy.From].scan.manifest.Select(a.Copy)
		if !ok {
			return nil
		}
		parts = append(parts, string(d))
	}
	return parts
}

// named reports whether names of users are looked up in input i.
func named(f *op.File, i int) bool {
	for _, a := range f.Actions {
		for _, w := range a.Owners() {
			if w != nil && w.Name != "" && w.Input == i {
				return true
			}
		}
	}
	return false
}

// mounted is what a command sees through mounts that it leaves as they are,
// and the ids of its other inputs. It is nil if it has no such mounts.
func (j *job) mounted(ctx context.Context, e *op.Exec) (parts []string, err error) {
	var seen bool
	for _, m := range e.Mounts {
		in := j.input(m.Input)
		if m.Type != op.Bind || m.Target == "/" || m.Output != op.Scratch || in == nil {
			parts = append(parts, in.identity())
			continue
		}
		seen = true
		if in.scan != nil {
			if d, ok := in.scan.manifest.At(m.Selector); ok {
				parts = append(parts, string(d))
				continue
			}
		}
		lowers, err := j.b.lowers(in)
		if err != nil {
			return nil, err
		}
		d, err := tree.Selected(ctx, lowers, m.Selector)
		if err != nil {
			return nil, err
		}
		parts = append(parts, string(d))
	}
	if !seen {
		return nil, nil
	}
	return parts, nil
}
