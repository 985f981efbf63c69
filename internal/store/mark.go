package store

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/flock"
)

// marks is what must stay.
type marks struct {
	s      *Store
	blobs  map[digest.Digest]bool
	layers map[string]bool
	live   map[string]bool // leases
	stale  []string        // files of holds that ended
	// read are the documents whose content is marked: one may be marked as
	// somebody's layer first, which says nothing about what it lists.
	read map[digest.Digest]bool
}

// mark runs with gc.lock held exclusively, and names.lock if anything is to be
// taken away. Leases and holds come first: they end when what they keep has a
// name or is in a record, so what has ended before it is read here is found
// there. The other way round something could be missed that is handed over in
// between. Names that without says, if it is not nil, count as if they were
// gone.
func (s *Store) mark(opts *CollectOptions, without func(*Name) bool) (*marks, error) {
	m := s.noMarks()
	for _, f := range []func() error{
		m.leases,
		func() error { return m.holds(opts.idleAge()) },
		func() error { return m.names(without) },
		m.containers,
		m.records,
	} {
		if err := f(); err != nil {
			return nil, err
		}
	}
	m.targets()
	return m, nil
}

func (s *Store) noMarks() *marks {
	return &marks{s: s, blobs: map[digest.Digest]bool{}, layers: map[string]bool{}, live: map[string]bool{}, read: map[digest.Digest]bool{}}
}

func (m *marks) names(without func(*Name) bool) error {
	files, err := m.s.nameFiles()
	if err != nil {
		return err
	}
	for _, file := range files {
		// Also a file about to go and a change that was cut short: keeping too
		// much for a moment does no harm.
		if !strings.HasSuffix(file, ".json") && !strings.HasSuffix(file, ".json.next") {
			continue
		}
		if err := m.name(file, without); err != nil {
			return err
		}
	}
	return nil
}

func (m *marks) name(file string, without func(*Name) bool) error {
	n, err := m.s.readName(file)
	if err != nil && strings.HasSuffix(file, ".next") {
		return nil // torn: it will be dropped
	}
	if err != nil || n == nil || without != nil && without(n) {
		return err
	}
	for _, d := range []digest.Digest{n.Target, n.Manifest} {
		if err := m.document(d, 0); err != nil {
			return err
		}
	}
	return nil
}

// document marks a manifest or index and what it refers to. A blob that is
// missing or damaged has nothing more to say, but one that cannot be read now
// might: that is an error.
func (m *marks) document(d digest.Digest, depth int) error {
	if m.read[d] || CheckDigest(d) != nil || depth > maxIndexDepth {
		return nil
	}
	m.blobs[d], m.read[d] = true, true
	data, err := m.s.ReadBlob(d)
	if err != nil {
		return ignoreDamage(err)
	}
	if entries, isIndex, err := ParseIndex(data); err != nil {
		return nil
	} else if isIndex {
		for _, e := range entries {
			if err := m.document(e.Digest, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	img, _, err := ParseManifest(data)
	if err != nil {
		return m.artifact(data)
	}
	m.blobs[img.ID] = true
	for _, l := range img.Layers {
		m.blobs[l.Blob.Digest] = true
	}
	config, err := m.s.ReadBlob(img.ID)
	if err != nil {
		return ignoreDamage(err)
	}
	if img.SetConfig(config) == nil {
		for _, c := range img.Chains() {
			m.layers[c] = true
		}
	}
	return nil
}

// artifact marks what a manifest lists that is not an image's.
func (m *marks) artifact(data []byte) error {
	d, err := parseDocument(data)
	if err != nil {
		return nil
	}
	if d.Config != nil {
		m.blobs[d.Config.Digest] = true
	}
	for _, l := range d.Layers {
		m.blobs[l.Digest] = true
	}
	return nil
}

// maxIndexDepth bounds indexes within indexes.
const maxIndexDepth = 4

func ignoreDamage(err error) error {
	var io *fs.PathError
	if errors.As(err, &io) {
		return err
	}
	return nil
}

func (m *marks) containers() error {
	uses, err := m.s.ContainerUses()
	if err != nil {
		return err
	}
	for _, u := range uses {
		m.blobs[u.ImageID] = true
		for _, c := range u.Layers {
			m.layers[c] = true
		}
		if err := m.document(u.Manifest, 0); err != nil {
			return err
		}
	}
	return nil
}

// leases marks what live leases name.
func (m *marks) leases() error { return m.leasesBut("") }

func (m *marks) leasesBut(own string) error {
	entries, err := os.ReadDir(m.s.path("leases"))
	if err != nil {
		return m.s.trouble(err)
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".lock")
		if !ok || id == own {
			continue
		}
		held, err := flock.Held(m.s.path("leases", e.Name()))
		if err != nil {
			return m.s.trouble(err)
		}
		if held {
			m.live[id] = true
			if err := m.lease(id); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *marks) lease(id string) error {
	f, err := os.Open(m.s.path("leases", id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing added yet, or just closed
	}
	if err != nil {
		return m.s.trouble(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if chain, ok := strings.CutPrefix(lines.Text(), "layer:"); ok {
			m.layers[chain] = true
		} else {
			m.blobs[digest.Digest(lines.Text())] = true
		}
	}
	return m.s.trouble(lines.Err())
}
