package cache

import (
	"context"
	"slices"
	"strings"
	"time"
)

// Types of what the cache has, as Docker's tools call them.
const (
	TypeLayer  = "regular"         // a result with its layers
	TypeMount  = "exec.cachemount" // a cache mount
	TypeSource = "source"          // "source." and the kind: what a source keeps
	TypeRecord = "record"          // a result whose layers were given up: a small file
)

// Item is one thing in the cache.
type Item struct {
	ID          string
	Type        string
	Description string
	Parents     []string
	// Size is what it takes up on disk, in bytes, without what its parents have.
	Size          int64
	Created, Used time.Time
	Uses          int
	// InUse: a build that runs holds it. Shared: images or containers need it as
	// well, so nothing is gained by giving it up.
	InUse, Shared bool
}

// Usage is what the cache takes up on disk, in bytes.
type Usage struct {
	Items []Item // in order of their last use, the latest first
	// Total has everything once, however many results consist of it. Shared is
	// the part of it that images or containers need, Reclaimable what would be
	// free if all was pruned that no build uses now. Small files, such as those
	// of records, are not counted.
	Total, Shared, Reclaimable int64
}

// Usage looks what there is. Sizes of cache mounts that were used since somebody
// last looked are measured anew.
func (c *Cache) Usage(ctx context.Context) (*Usage, error) {
	v, err := c.survey(ctx)
	if err != nil {
		return nil, err
	}
	u := &Usage{}
	for _, e := range v.entries {
		u.Items = append(u.Items, e.Item)
		if e.slot != "" {
			u.Total += e.Size
			if !e.InUse {
				u.Reclaimable += e.Size
			}
		}
	}
	for _, p := range v.parts {
		if p.users == 0 {
			continue // no record counts on it, so it is not the cache's
		}
		u.Total += p.disk
		switch {
		case p.kept:
			u.Shared += p.disk
		case !p.leased:
			u.Reclaimable += p.disk
		}
	}
	slices.SortStableFunc(u.Items, func(a, b Item) int { return b.Used.Compare(a.Used) })
	return u, nil
}

// survey is a look at everything, at one moment; the next moment it may differ.
type survey struct {
	entries []*entry
	parts   map[string]*part
}

// entry is an item with what it consists of.
type entry struct {
	Item
	rec   *Record // or
	slot  string  // the directory
	parts []*part // all that a record keeps; its own ones and its parents'
	own   []*part
	order time.Time // of the last use of what needs it
}

// part is a layer, by the name that has the files, or a blob.
type part struct {
	disk   int64
	users  int  // records that are not virtual
	kept   bool // by images or containers
	leased bool
	used   time.Time // the last use of a record that keeps it
}

func (c *Cache) survey(ctx context.Context) (*survey, error) {
	v := &survey{parts: map[string]*part{}}
	if err := c.surveyRecords(ctx, v); err != nil {
		return nil, err
	}
	mounts, err := c.slotsBelow(c.path("mounts"))
	if err != nil {
		return nil, c.s.Trouble(err)
	}
	for _, dir := range mounts {
		if err := c.surveySlot(ctx, v, dir, TypeMount); err != nil {
			return nil, err
		}
	}
	kinds, err := names(c.path("sources"))
	if err != nil {
		return nil, c.s.Trouble(err)
	}
	for _, kind := range kinds {
		dirs, err := c.slotsBelow(c.path("sources", kind))
		if err != nil {
			return nil, c.s.Trouble(err)
		}
		for _, dir := range dirs {
			if err := c.surveySlot(ctx, v, dir, TypeSource+"."+kind); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

func (v *survey) part(name string) (p *part, known bool) {
	if p = v.parts[name]; p != nil {
		return p, true
	}
	p = &part{}
	v.parts[name] = p
	return p, false
}

// is reports whether an item is of a type: of that itself, or of one below it.
func is(itemType, wanted string) bool {
	return itemType == wanted || strings.HasPrefix(itemType, wanted+".")
}
