package cache

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/store"
)

// PruneOptions say what to give up. The zero value gives up everything that no
// running build uses and that gains space.
type PruneOptions struct {
	// All includes what images share, and forgets the results altogether, so
	// that the next build executes everything again. Otherwise a record of what
	// a result was stays, and nothing is executed again but what a change needs.
	All bool
	// Unused is for how long it was not used, at least, nor anything made of it.
	Unused time.Duration
	// Keep is how much may remain, in bytes on disk: what was used last stays. It
	// counts as Cap does. Zero: nothing that is chosen stays.
	Keep int64
	// IDs, Types and Description restrict it: to ids that begin so, to types
	// (TypeSource stands for all kinds of sources), and to descriptions that
	// contain this text.
	IDs, Types  []string
	Description string
	// DryRun only says what would be done.
	DryRun bool
}

// Pruned is what Prune did.
type Pruned struct {
	Items []Item
	Bytes int64 // on disk that are free now, or, in a dry run, would be
}

// Prune gives up what builds may need again. What a running build has leased,
// and cache mounts in use, stay. Then it collects garbage in the whole store, as
// the removal of an image does, and does what Tidy does.
func (c *Cache) Prune(ctx context.Context, opts *PruneOptions) (*Pruned, error) {
	if opts == nil {
		opts = &PruneOptions{}
	}
	out, err := c.prune(ctx, opts)
	if err == nil && !opts.DryRun {
		err = c.Tidy(ctx)
	}
	return out, err
}

func (c *Cache) prune(ctx context.Context, opts *PruneOptions) (*Pruned, error) {
	v, err := c.survey(ctx)
	if err != nil {
		return nil, err
	}
	chosen, freed := v.choose(opts)
	out := &Pruned{Bytes: freed}
	if opts.DryRun {
		for _, e := range chosen {
			out.Items = append(out.Items, e.Item)
		}
		return out, nil
	}
	return c.give(ctx, v, chosen, opts)
}

// wanted reports whether an entry may be given up at all.
func (o *PruneOptions) wanted(e *entry, now time.Time) bool {
	virtual := e.Type == TypeRecord
	switch {
	case e.InUse, !o.All && (e.Shared || virtual), virtual && o.Keep > 0:
		return false
	case o.Unused > 0 && now.Sub(e.order) < o.Unused:
		return false
	case len(o.IDs) > 0 && !slices.ContainsFunc(o.IDs, func(id string) bool { return strings.HasPrefix(e.ID, id) }):
		return false
	case len(o.Types) > 0 && !slices.ContainsFunc(o.Types, func(t string) bool { return is(e.Type, t) }):
		return false
	}
	return strings.Contains(e.Description, o.Description)
}

// choose says what goes, in this order, and how much that frees.
func (v *survey) choose(o *PruneOptions) (chosen []*entry, freed int64) {
	var able []*entry
	now := time.Now()
	var total int64
	for _, e := range v.entries {
		if o.wanted(e, now) {
			able = append(able, e)
		}
		if e.slot != "" {
			total += e.Size
		}
	}
	for _, p := range v.parts {
		if p.users > 0 && !p.kept {
			total += p.disk
		}
	}
	// The longest unused first; of equals, those first that are made of others.
	slices.SortStableFunc(able, func(a, b *entry) int {
		return cmp.Or(a.order.Compare(b.order), cmp.Compare(len(b.parts), len(a.parts)))
	})
	for _, e := range able {
		if o.Keep > 0 && total-freed <= o.Keep {
			break
		}
		freed += e.release()
		chosen = append(chosen, e)
	}
	return chosen, freed
}

// release gives the entry up, and returns how much becomes free by that.
func (e *entry) release() (n int64) {
	if e.slot != "" {
		return e.Size
	}
	for _, p := range e.parts {
		if p.users == 1 && !p.kept && !p.leased {
			n += p.disk
		}
		p.users--
	}
	return n
}

// give does what was chosen. A kill on the way leaves no more than garbage.
func (c *Cache) give(ctx context.Context, v *survey, chosen []*entry, o *PruneOptions) (*Pruned, error) {
	out := &Pruned{}
	for _, e := range chosen {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		var done bool
		var err error
		if e.slot != "" {
			done, err = c.giveSlot(e)
		} else {
			done, err = c.giveRecord(ctx, e.rec, o.All && o.Keep == 0)
		}
		if err != nil {
			return out, err
		}
		if !done {
			continue // used since we looked
		}
		out.Items = append(out.Items, e.Item)
		if e.slot != "" {
			out.Bytes += e.Size
		}
	}
	step.At("prune.given")
	got, err := c.s.Collect(ctx, &store.CollectOptions{PartialAge: partialAge})
	if err != nil {
		return out, err
	}
	for _, name := range got.Layers {
		if p := v.parts[name]; p != nil {
			out.Bytes += p.disk
		}
	}
	for _, d := range got.Blobs {
		if p := v.parts[string(d)]; p != nil {
			out.Bytes += p.disk
		}
	}
	return out, nil
}

// partialAge is how long a download that was given up may wait for who goes on
// with it, as when images are removed.
const partialAge = 24 * time.Hour

// giveRecord makes a record virtual, or removes it, unless it was used or
// written since it was read.
func (c *Cache) giveRecord(ctx context.Context, old *Record, forget bool) (done bool, err error) {
	err = c.replacing(ctx, func() error {
		r, ok, err := c.get(old.ID)
		if err != nil || !ok || !r.Used.Equal(old.Used) || r.Uses != old.Uses {
			return err
		}
		done = true
		path := c.sharded("records", r.ID, ".json")
		if forget {
			return c.remove(path)
		}
		r.Version, r.Virtual = version, true
		return c.writeAt(path, r, r.Used)
	})
	if done {
		step.At("prune.record")
	}
	return done, err
}

// giveSlot removes a cache mount that nobody uses.
func (c *Cache) giveSlot(e *entry) (bool, error) {
	l, err := flock.Try(e.slot+".lock", flock.Exclusive)
	if err != nil {
		return false, c.unlessHeld(err)
	}
	defer l.Release()
	info, ok, err := readSlot(e.slot)
	if err != nil || ok && !info.Used.Equal(e.Used) {
		return false, c.s.Trouble(err)
	}
	if err := c.s.Trash(e.slot); err != nil {
		return false, err
	}
	step.At("prune.slot")
	return true, c.dropLock(e.slot + ".lock")
}
