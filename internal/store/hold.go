package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/step"
)

// IdleAge is how long uploads, and holds on what was uploaded, last without
// being used: a client that lost its connection in the evening may go on in
// the morning.
const IdleAge = 24 * time.Hour

// Hold keeps blobs, for a scope, from the collector for IdleAge from now,
// whatever becomes of this process. Like a lease it comes before the question
// whether the blob exists: what exists after Hold stays.
//
// A scope is the repository that a client uploads to. What one scope holds
// another does not: who may write to one repository learns nothing of others.
func (s *Store) Hold(ctx context.Context, scope string, blobs ...digest.Digest) error {
	if err := s.Init(); err != nil {
		return err
	}
	gc, err := flock.Acquire(ctx, s.path("gc.lock"), flock.Shared)
	if err != nil {
		return s.lockTrouble(ctx, err)
	}
	defer gc.Release()
	for _, d := range blobs {
		if err := CheckDigest(d); err != nil {
			return err
		}
		if err := writeHold(s.holdPath(scope, d), scope); err != nil {
			return s.trouble(err)
		}
	}
	step.At("hold.written")
	return nil
}

// writeHold writes the file until it is there: somebody may end the same hold
// meanwhile.
func writeHold(path, scope string) error {
	for {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		_, err = f.WriteString(scope) // which sets its time
		mine, err2 := f.Stat()
		if err = errors.Join(err, err2, f.Close()); err != nil {
			return err
		}
		there, err := os.Stat(path)
		if err == nil && os.SameFile(mine, there) {
			return nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
}

// handOver is how long a hold still lasts once a manifest names the blob:
// another client may have been told that it need not send it.
const handOver = time.Hour

// HandOver lets holds end soon, since a manifest names the blobs now.
func (s *Store) HandOver(scope string, blobs ...digest.Digest) error {
	then := time.Now().Add(handOver - IdleAge)
	for _, d := range blobs {
		if CheckDigest(d) != nil || !s.Held(scope, d) {
			continue
		}
		if err := os.Chtimes(s.holdPath(scope, d), then, then); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s.trouble(err)
		}
	}
	return nil
}

// Held reports whether the scope holds a blob.
func (s *Store) Held(scope string, d digest.Digest) bool {
	if CheckDigest(d) != nil {
		return false
	}
	info, err := os.Stat(s.holdPath(scope, d))
	return err == nil && time.Since(info.ModTime()) < IdleAge
}

// Holders lists the scopes that hold a blob.
func (s *Store) Holders(d digest.Digest) ([]string, error) {
	if err := CheckDigest(d); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(s.path("holds"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, s.trouble(err)
	}
	var scopes []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), encoded(d)+"-") {
			continue
		}
		scope, err := os.ReadFile(s.path("holds", e.Name()))
		if err == nil && s.Held(string(scope), d) {
			scopes = append(scopes, string(scope))
		}
	}
	return scopes, nil
}

// Unhold ends holds of a scope at once.
func (s *Store) Unhold(scope string, blobs ...digest.Digest) error {
	for _, d := range blobs {
		if CheckDigest(d) != nil {
			continue
		}
		if err := os.Remove(s.holdPath(scope, d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s.trouble(err)
		}
	}
	return nil
}

func (s *Store) holdPath(scope string, d digest.Digest) string {
	return s.path("holds", encoded(d)+"-"+encoded(digestOf([]byte(scope)))[:16])
}

// holds marks what is held, with gc.lock held exclusively.
func (m *marks) holds(age time.Duration) error {
	entries, err := os.ReadDir(m.s.path("holds"))
	if err != nil {
		return m.s.trouble(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) >= age {
			m.stale = append(m.stale, m.s.path("holds", e.Name()))
			continue
		}
		hex, _, _ := strings.Cut(e.Name(), "-")
		m.blobs[digest.Digest("sha256:"+hex)] = true
	}
	return nil
}
