package registry

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/store"
)

// snapshot is the names of the store at one moment.
type snapshot struct {
	changed time.Time                // of the names when they were read
	read    time.Time                // when that was
	names   map[string][]*store.Name // by repository, as the store calls it
	views   map[string]*view         // of some of them; guarded by Registry.mu
}

// settled is the age at which a time of change says that nothing changed since:
// of two changes at one tick of the file system's clock the second may come
// after we read. Two seconds is FAT's, the coarsest.
const settled = 2 * time.Second

// names reads the names of the store, or finds that they are as they were.
func (g *Registry) names(ctx context.Context) (*snapshot, error) {
	changed, err := g.store.NamesChanged()
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	seen := g.seen
	g.mu.Unlock()
	if seen != nil && seen.changed.Equal(changed) && seen.read.Sub(changed) > settled {
		return seen, nil
	}
	now := &snapshot{changed: changed, read: time.Now(), names: map[string][]*store.Name{}, views: map[string]*view{}}
	all, err := g.store.Names(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range all {
		if repo, _, ok := split(n.Name); ok {
			now.names[repo] = append(now.names[repo], n)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seen = now
	return now, nil
}

// split takes a canonical name apart. The reference is a tag or a digest.
func split(name string) (repo, reference string, ok bool) {
	if repo, reference, ok = strings.Cut(name, "@"); ok {
		return repo, reference, true
	}
	slash := strings.LastIndexByte(name, '/')
	colon := strings.LastIndexByte(name, ':')
	if colon <= slash {
		return "", "", false
	}
	return name[:colon], name[colon+1:], true
}

// view is what a repository has.
type view struct {
	tags      map[string]*store.Name
	manifests map[digest.Digest]*held
	blobs     map[digest.Digest]*heldBlob
	lacks     bool // something that is listed
}

// held is a manifest of a repository.
type held struct {
	*document               // nil: it is listed, but not here
	name      *store.Name   // by which it is here
	within    digest.Digest // an index that lists it
}

type heldBlob struct {
	ocispec.Descriptor
	within digest.Digest // a manifest that lists it
	name   *store.Name
}

// view returns what a repository has; it is empty when there is none.
func (g *Registry) view(ctx context.Context, repo string) (*view, error) {
	s, err := g.names(ctx)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	v := s.views[repo]
	g.mu.Unlock()
	if v != nil {
		return v, nil
	}
	v = &view{tags: map[string]*store.Name{}, manifests: map[digest.Digest]*held{}, blobs: map[digest.Digest]*heldBlob{}}
	for _, n := range s.names[repo] {
		if _, reference, _ := split(n.Name); !strings.Contains(reference, ":") {
			v.tags[reference] = n
		}
		v.add(g, n, ocispec.Descriptor{Digest: n.Target}, "", 0)
		v.add(g, n, ocispec.Descriptor{Digest: n.Manifest}, "", 0)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s.views[repo] = v
	return v, nil
}

// find looks something up. What is listed and not here may have come since the
// view was made, from upstream, without any change of names.
func (q *request) find(found func(*view) bool) (*view, error) {
	v, err := q.view(q.ctx, q.name)
	if err != nil || found(v) || !v.lacks {
		return v, err
	}
	q.forget(q.name)
	return q.view(q.ctx, q.name)
}

func (g *Registry) forget(repo string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.seen != nil {
		delete(g.seen.views, repo)
	}
}

// maxDepth of indexes within indexes; the collector counts as far.
const maxDepth = 4

func (v *view) add(g *Registry, n *store.Name, e ocispec.Descriptor, within digest.Digest, depth int) {
	if have := v.manifests[e.Digest]; have != nil {
		if have.within == "" {
			have.within = within
		}
		return
	}
	if depth > maxDepth {
		return
	}
	m := &held{document: g.document(e.Digest), name: n, within: within}
	v.manifests[e.Digest] = m
	if m.document == nil {
		v.lacks = true
		return
	}
	for _, b := range m.blobs {
		if v.blobs[b.Digest] == nil {
			v.blobs[b.Digest] = &heldBlob{b, e.Digest, n}
		}
	}
	for _, inner := range m.manifests {
		v.add(g, n, inner, e.Digest, depth+1)
	}
}

// below lists the manifests that a document lists, and those that they list.
func (v *view) below(d *document) []digest.Digest {
	var out []digest.Digest
	for todo := slices.Clone(d.manifests); len(todo) > 0; todo = todo[1:] {
		next := todo[0].Digest
		if slices.Contains(out, next) {
			continue
		}
		out = append(out, next)
		if m := v.manifests[next]; m != nil && m.document != nil {
			todo = append(todo, m.manifests...)
		}
	}
	return out
}
