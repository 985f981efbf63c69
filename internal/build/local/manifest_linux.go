package local

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/store"
)

// Manifest is what a scan saw: every name that belongs to the context, with
// the digest of its content. It does not change, and is safe for concurrent
// use.
type Manifest struct {
	mu     sync.Mutex
	copies map[*store.Lease]string // guarded by mu: copies for Rooted

	path   string // of the directory, without links
	filter Filter
	root   *entry
	mode   uint32 // of the directory itself
	owned  bool   // the directory itself is not as builds see it: owner, attributes
}

// form is hashed first: it changes when what is hashed does.
const form = "amphora context 1\n"

// Digest is the identity of the filtered tree. Owners do not count, all belongs
// to user 0, and times do not.
func (m *Manifest) Digest() digest.Digest {
	h := &picked{buf: []byte(form), names: map[file]string{}}
	h.tree("", m.root)
	return h.digest()
}

// Unchanged looks at all files again: is the context still what Scan saw? It
// says no if it cannot tell without reading a file.
func (m *Manifest) Unchanged(ctx context.Context) (bool, error) {
	now, err := scan(ctx, m.path, &m.filter, m.remember(), "", true)
	if errors.Is(err, errChanged) || errors.Is(err, errAgain) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return now.mode == m.mode && now.Digest() == m.Digest(), nil
}

// file tells a file from others that exist at the same time.
type file struct{ dev, ino uint64 }

// picked collects what is taken from a context, in the order of a copy.
type picked struct {
	buf   []byte
	names map[file]string // of files with several names: the first
}

// tree adds an entry with all below it. name tells it from others that are
// taken.
func (p *picked) tree(name string, e *entry) {
	p.buf = append(p.buf, e.hash[:]...)
	p.links(name, e)
}

// links adds which files of the tree are one: a copy keeps that.
func (p *picked) links(name string, e *entry) {
	if !e.links {
		return
	}
	if e.linked {
		p.link(name, e)
	}
	for _, k := range e.kids {
		p.links(name+"/"+k.name, k)
	}
}

// link adds that e is the file of an earlier name, if it is. Names elsewhere
// change nothing.
func (p *picked) link(name string, e *entry) {
	at := file{e.stamp.dev, e.stamp.ino}
	first, ok := p.names[at]
	if !ok {
		p.names[at] = name
		return
	}
	p.buf = text(text(append(p.buf, 'l'), first), name)
}

func (p *picked) digest() digest.Digest {
	sum := sha256.Sum256(p.buf)
	return digest.NewDigestFromBytes(digest.SHA256, sum[:])
}
