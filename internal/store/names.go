package store

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
)

// Name returns what a canonical name stands for; fs.ErrNotExist if nothing.
func (s *Store) Name(ctx context.Context, name string) (*Name, error) {
	file := escapeName(name) + ".json"
	if err := s.mend(ctx, file); err != nil {
		return nil, err
	}
	n, err := s.readName(file)
	if err == nil && n == nil {
		return nil, fault.NotExist("no such image: %s", name)
	}
	return n, err
}

// Names returns all names, and the nameless images, sorted by name.
func (s *Store) Names(ctx context.Context) ([]*Name, error) {
	files, err := s.nameFiles()
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if strings.HasSuffix(f, ".json.next") {
			if err := s.mend(ctx, strings.TrimSuffix(f, ".next")); err != nil {
				return nil, err
			}
		}
	}
	return s.namesIn(files)
}

// NamesChanged is when the names last changed, as exactly as the file system
// tells times. It costs one system call.
func (s *Store) NamesChanged() (time.Time, error) {
	info, err := os.Stat(s.path("images"))
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, s.trouble(err)
	}
	return info.ModTime(), nil
}

func (s *Store) nameFiles() ([]string, error) {
	entries, err := os.ReadDir(s.path("images"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, s.trouble(err)
	}
	files := make([]string, len(entries))
	for i, e := range entries {
		files[i] = e.Name()
	}
	return files, nil
}

func (s *Store) namesIn(files []string) ([]*Name, error) {
	var names []*Name
	for _, f := range files {
		if !strings.HasSuffix(f, ".json") {
			continue
		}
		n, err := s.readName(f)
		if err != nil {
			return nil, err
		}
		if n != nil {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(a, b *Name) int { return strings.Compare(a.Name, b.Name) })
	return names, nil
}

// readName returns nil when the file is not there or is about to go.
func (s *Store) readName(file string) (*Name, error) {
	data, err := os.ReadFile(s.path("images", file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, s.trouble(err)
	}
	n, err := decodeName(data, file)
	if err != nil || n.Removed {
		return nil, err
	}
	return n, nil
}

// mend completes a change of one file that was cut short. A change that is
// still being made by a live process is left to it.
func (s *Store) mend(ctx context.Context, file string) error {
	if _, err := os.Lstat(s.path("images", file+".next")); err != nil {
		return nil
	}
	lock, err := flock.Acquire(ctx, s.path("images", "names.lock"), flock.Exclusive)
	if err != nil {
		return s.lockTrouble(ctx, err)
	}
	defer lock.Release()
	return s.settle(ctx, file)
}

// settle is called with names.lock held.
func (s *Store) settle(ctx context.Context, file string) error {
	path := s.path("images", file)
	data, err := os.ReadFile(path + ".next")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return s.trouble(err)
	}
	// A torn file was never logged: Settle drops it whatever the id.
	var next plainName
	json.Unmarshal(data, &next)
	if err := s.journal.Settle(ctx, path, string(next.ImageID), func(b []byte) (uint64, error) {
		var n plainName
		err := json.Unmarshal(b, &n)
		return n.Seq, err
	}); err != nil {
		return err
	}
	return s.unlinkRemoved(file)
}

func (s *Store) unlinkRemoved(file string) error {
	data, err := os.ReadFile(s.path("images", file))
	if err != nil {
		return nil
	}
	if n, err := decodeName(data, file); err == nil && n.Removed {
		return s.trouble(os.Remove(s.path("images", file)))
	}
	return nil
}
