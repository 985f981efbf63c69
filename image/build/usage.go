package build

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/amphora-go/amphora/internal/build/cache"
	"github.com/amphora-go/amphora/internal/fault"
)

// CacheItem is one thing that builds keep for later ones.
type CacheItem struct {
	ID string
	// Type is "regular" for a result with its files, "exec.cachemount" for a
	// cache mount, "source.git" and the like for what a source keeps, "record"
	// for a result whose files were given up.
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

// CacheUsage is what the cache of builds takes up on disk, in bytes.
type CacheUsage struct {
	Items []CacheItem // in order of their last use, the latest first
	// Total has everything once. Shared is the part of it that images or
	// containers need, Reclaimable what would be free if all was pruned that no
	// build uses now.
	Total, Shared, Reclaimable int64
}

// PruneOptions say what to give up. The zero value gives up everything that no
// running build uses and that gains space.
type PruneOptions struct {
	// All includes what images share, and forgets the results altogether, so
	// that the next build executes everything again. Otherwise it stays known
	// what a result was, and nothing is executed again but what a change needs.
	All bool
	// Unused is for how long it was not used, at least, nor anything made of it.
	Unused time.Duration
	// Keep is how much may remain, in bytes on disk: what was used last stays.
	Keep int64
	// IDs, Types and Description restrict it: to ids that begin so, to types
	// ("source" stands for all kinds), and to descriptions that contain this.
	IDs, Types  []string
	Description string
	// DryRun only says what would be done.
	DryRun bool
}

// Matches reports whether the restrictions are met, and Unused.
func (o *PruneOptions) Matches(i CacheItem) bool {
	return (len(o.IDs) == 0 || slices.ContainsFunc(o.IDs, func(id string) bool { return strings.HasPrefix(i.ID, id) })) &&
		(len(o.Types) == 0 || slices.ContainsFunc(o.Types, func(t string) bool { return i.Type == t || strings.HasPrefix(i.Type, t+".") })) &&
		strings.Contains(i.Description, o.Description) && (o.Unused == 0 || time.Since(i.Used) >= o.Unused)
}

// Pruned is what Prune did.
type Pruned struct {
	Items []CacheItem
	Bytes int64 // on disk that are free now, or, in a dry run, would be
}

// Usage says what the cache of builds takes up.
func (b *Builder) Usage(ctx context.Context) (*CacheUsage, error) {
	u, err := cache.Open(b.images.Underlying()).Usage(ctx)
	if err != nil {
		return nil, fault.New("build usage", "", err)
	}
	return &CacheUsage{Items: items(u.Items), Total: u.Total, Shared: u.Shared, Reclaimable: u.Reclaimable}, nil
}

// Prune gives up what builds may need again. What running builds use stays. Nil
// options are valid.
func (b *Builder) Prune(ctx context.Context, opts *PruneOptions) (*Pruned, error) {
	if opts == nil {
		opts = &PruneOptions{}
	}
	o := cache.PruneOptions(*opts)
	p, err := cache.Open(b.images.Underlying()).Prune(ctx, &o)
	if p == nil {
		return nil, fault.New("build prune", "", err)
	}
	return &Pruned{Items: items(p.Items), Bytes: p.Bytes}, fault.New("build prune", "", err)
}

func items(in []cache.Item) []CacheItem {
	out := make([]CacheItem, len(in))
	for i, it := range in {
		out[i] = CacheItem(it)
	}
	return out
}
