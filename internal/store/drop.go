package store

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/step"
)

// Droppable is a layer whose blob can be had again.
type Droppable struct {
	Layer
	Origins []string // names, as registries know them, of images that have it
}

// DropBlobs takes away the blobs of layers whose trees are on disk, for good
// and synced, until enough, if not nil, says that what was freed suffices.
// Before a blob goes the tree is written down, file by file, which is what
// Verify compares it with from then on, and where the blob came from: the names
// may be gone when it is wanted. Blobs that a live lease names stay. It returns
// those that went and their bytes.
func (s *Store) DropBlobs(ctx context.Context, layers []Droppable, enough func(freed int64) bool) ([]digest.Digest, int64, error) {
	if err := s.Init(); err != nil {
		return nil, 0, err
	}
	var ready []Droppable
	var freed int64
	for _, l := range layers {
		if enough != nil && enough(freed) {
			break
		}
		size, ok := s.HasBlob(l.Blob.Digest)
		if !ok {
			continue
		}
		if ok, err := s.listed(ctx, &l); err != nil {
			return nil, 0, err
		} else if ok {
			ready, freed = append(ready, l), freed+size
		}
	}
	if ready == nil {
		return nil, 0, nil
	}
	step.At("drop.listed")
	gone, freed, err := s.dropListed(ctx, ready)
	s.emptyTrash(ctx)
	return gone, freed, err
}

// listed sees to it that a layer can do without its blob: false if it is not
// there, or not yet synced.
func (s *Store) listed(ctx context.Context, l *Droppable) (bool, error) {
	chain := l.Chain
	if _, ok, err := s.Layer(chain); err != nil || !ok {
		return false, nil // damaged: the blob is needed
	}
	if state, err := s.pending(chain); err != nil || state != pendingNot {
		return false, err
	}
	if err := atomicfile.WriteJSON(s.path("layers", chain, "origins.json"), l.Origins, 0o600, true); err != nil {
		return false, s.trouble(err)
	}
	if list, err := s.readList(chain); err == nil && list != nil {
		return true, nil
	}
	list, err := listTree(ctx, s.LayerDir(chain))
	if err != nil {
		return false, s.trouble(err)
	}
	return true, s.writeList(chain, list)
}

// dropListed renames blobs away while nobody writes a lease.
func (s *Store) dropListed(ctx context.Context, layers []Droppable) (gone []digest.Digest, freed int64, err error) {
	gc, err := flock.Acquire(ctx, s.path("gc.lock"), flock.Exclusive)
	if err != nil {
		return nil, 0, s.lockTrouble(ctx, err)
	}
	defer gc.Release()
	m := s.noMarks()
	if err := m.leases(); err != nil {
		return nil, 0, err
	}
	if err := m.holds(IdleAge); err != nil {
		return nil, 0, err
	}
	sw := &sweep{s: s, id: randomID()}
	for _, l := range layers {
		size, ok := s.HasBlob(l.Blob.Digest)
		if !ok || m.blobs[l.Blob.Digest] {
			continue
		}
		// The layer may have gone since it was looked at; its lists with it.
		if _, err := os.Stat(s.listPath(l.Chain)); err != nil {
			continue
		}
		if err := sw.take(s.blobPath(l.Blob.Digest)); err != nil {
			return gone, freed, s.trouble(err)
		}
		gone, freed = append(gone, l.Blob.Digest), freed+size
	}
	return gone, freed, nil
}

// Origins is where the blob of a layer came from that was dropped.
func (s *Store) Origins(chain string) []string {
	if !isHex(chain) {
		return nil
	}
	var origins []string
	if data, err := os.ReadFile(s.path("layers", chain, "origins.json")); err == nil {
		json.Unmarshal(data, &origins) // without them the names are what is left
	}
	return origins
}

// Dropped reports whether a layer does without its blob by design.
func (s *Store) Dropped(chain string) bool {
	if _, ok, err := s.Layer(chain); err != nil || !ok {
		return false
	}
	_, err := os.Stat(s.listPath(chain))
	return err == nil
}

// Touch notes that an image is used now, by the time of its config's blob. It
// is a help for choosing which goes first, and fails in silence.
func (s *Store) Touch(id digest.Digest) {
	if CheckDigest(id) == nil {
		now := time.Now()
		os.Chtimes(s.blobPath(id), now, now)
	}
}

// Used is when an image was last touched; the zero time if its config is not
// here.
func (s *Store) Used(id digest.Digest) time.Time {
	if CheckDigest(id) != nil {
		return time.Time{}
	}
	st, err := os.Stat(s.blobPath(id))
	if err != nil {
		return time.Time{}
	}
	return st.ModTime()
}

// Discard takes a blob away whose content is not what its name says, so that
// it can be fetched anew. One that is right, or gone, stays as it is.
func (s *Store) Discard(ctx context.Context, d digest.Digest) error {
	if err := CheckDigest(d); err != nil {
		return err
	}
	// It is read without the lock that users of the store wait for; that it is
	// the same file afterwards says that nobody made it right meanwhile.
	was, err := os.Stat(s.blobPath(d))
	if err != nil && !os.IsNotExist(err) {
		return s.trouble(err)
	}
	if err := s.CheckBlob(ctx, d); err == nil || errors.Is(err, ErrMissing) || IsTrouble(err) || ctx.Err() != nil {
		return err
	}
	gc, err := flock.Acquire(ctx, s.path("gc.lock"), flock.Exclusive)
	if err != nil {
		return s.lockTrouble(ctx, err)
	}
	defer gc.Release()
	if now, err := os.Stat(s.blobPath(d)); err != nil || was == nil || !os.SameFile(was, now) {
		return nil
	}
	sw := &sweep{s: s, id: randomID()}
	if err := sw.take(s.blobPath(d)); err != nil {
		return s.trouble(err)
	}
	gc.Release()
	s.emptyTrash(ctx)
	return nil
}
