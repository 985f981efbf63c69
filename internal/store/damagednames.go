package store

import (
	"context"
	"errors"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
)

// DamagedNames says which files of names cannot be understood, and why. While
// there is one nothing is collected: it may keep an image.
func (s *Store) DamagedNames() (map[string]error, error) {
	files, err := s.nameFiles()
	if err != nil {
		return nil, err
	}
	bad := map[string]error{}
	for _, f := range files {
		if !strings.HasSuffix(f, ".json") {
			continue
		}
		if _, err := s.readName(f); IsTrouble(err) || errors.Is(err, errors.ErrUnsupported) {
			return nil, err // a newer version is no damage
		} else if err != nil {
			bad[f] = err
		}
	}
	return bad, nil
}

// SoundNames is Names without those that are damaged.
func (s *Store) SoundNames(ctx context.Context) ([]*Name, error) {
	bad, err := s.DamagedNames()
	if err != nil {
		return nil, err
	}
	if len(bad) == 0 {
		return s.Names(ctx)
	}
	files, err := s.nameFiles()
	if err != nil {
		return nil, err
	}
	var sound []string
	for _, f := range files {
		if bad[f] == nil {
			sound = append(sound, f)
		}
	}
	return s.namesIn(sound)
}

// DropName takes the file of a name away that is damaged, and leaves one that
// is not.
func (s *Store) DropName(ctx context.Context, file string) error {
	lock, err := flock.Acquire(ctx, s.path("images", "names.lock"), flock.Exclusive)
	if err != nil {
		return s.lockTrouble(ctx, err)
	}
	defer lock.Release()
	bad, err := s.DamagedNames()
	if err != nil {
		return err
	}
	if bad[file] == nil {
		return fault.Invalid("the file of a name %q is not damaged", file)
	}
	sw := &sweep{s: s, id: randomID()}
	return s.trouble(sw.take(s.path("images", file)))
}
