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

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/journal"
	"github.com/amphora-go/amphora/internal/step"
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

// NamesTx is a look at all names that stays true while they are changed.
type NamesTx struct {
	s     *Store
	names []*Name
}

// UpdateNames runs f while no other process changes names. f must not wait
// for anything else.
func (s *Store) UpdateNames(ctx context.Context, f func(*NamesTx) error) error {
	if err := s.Init(); err != nil {
		return err
	}
	lock, err := flock.Acquire(ctx, s.path("images", "names.lock"), flock.Exclusive)
	if err != nil {
		return s.lockTrouble(ctx, err)
	}
	defer lock.Release()
	files, err := s.nameFiles()
	if err != nil {
		return err
	}
	for _, file := range files {
		switch {
		case strings.HasSuffix(file, ".json.next"):
			err = s.settle(ctx, strings.TrimSuffix(file, ".next"))
		case strings.HasSuffix(file, ".json"):
			err = s.unlinkRemoved(file)
		}
		if err != nil {
			return err
		}
	}
	if files, err = s.nameFiles(); err != nil {
		return err
	}
	names, err := s.namesIn(files)
	if err != nil {
		return err
	}
	return f(&NamesTx{s: s, names: names})
}

// All returns every name and nameless image.
func (tx *NamesTx) All() []*Name { return slices.Clone(tx.names) }

// Get returns one name, or nil.
func (tx *NamesTx) Get(name string) *Name {
	for _, n := range tx.names {
		if n.Name == name && name != "" {
			return n
		}
	}
	return nil
}

// Of returns the files of one image, the nameless one too.
func (tx *NamesTx) Of(id digest.Digest) []*Name {
	var out []*Name
	for _, n := range tx.names {
		if n.ImageID == id {
			out = append(out, n)
		}
	}
	return out
}

// Put logs action and writes n, durably. n.Name "" keeps the image without a
// name. The caller holds a lease on the image.
func (tx *NamesTx) Put(ctx context.Context, action string, n Name) error {
	if old := tx.byFile(n.fileName()); old != nil {
		n.unknown = old.unknown
	}
	n.Changed = time.Now().UTC()
	if err := tx.write(ctx, action, n.Name, &n); err != nil {
		return err
	}
	tx.forget(n.fileName())
	tx.names = append(tx.names, &n)
	return nil
}

// Remove logs action about name and unlinks the file, durably.
func (tx *NamesTx) Remove(ctx context.Context, action string, n *Name) error {
	gone := *n
	gone.Removed = true
	if err := tx.write(ctx, action, n.Name, &gone); err != nil {
		return err
	}
	step.At("name.marked")
	if err := os.Remove(tx.s.path("images", n.fileName())); err != nil {
		return tx.s.trouble(err)
	}
	step.At("name.unlinked")
	tx.forget(n.fileName())
	return tx.s.trouble(atomicfile.SyncDir(tx.s.path("images")))
}

// Keep makes sure that the image of n stays when n is given to another image
// or taken away, by a file without a name. It is no event: while n is there
// nobody sees it.
func (tx *NamesTx) Keep(n *Name) error {
	kept := *n
	kept.Name, kept.Pulled = "", false
	data, err := kept.encode()
	if err != nil {
		return err
	}
	if err := atomicfile.Write(tx.s.path("images", kept.fileName()), data, 0o600, true); err != nil {
		return tx.s.trouble(err)
	}
	tx.forget(kept.fileName())
	tx.names = append(tx.names, &kept)
	step.At("name.kept")
	return nil
}

// Drop undoes Keep for an image that has a name.
func (tx *NamesTx) Drop(n *Name) error {
	if err := os.Remove(tx.s.path("images", n.fileName())); err != nil {
		return tx.s.trouble(err)
	}
	tx.forget(n.fileName())
	return tx.s.trouble(atomicfile.SyncDir(tx.s.path("images")))
}

func (tx *NamesTx) write(ctx context.Context, action, name string, n *Name) error {
	ev := journal.Event{Type: "image", Action: action, ID: string(n.ImageID),
		Attributes: map[string]string{"name": name, "target": string(n.Target)}}
	_, err := tx.s.journal.Update(ctx, ev, tx.s.path("images", n.fileName()), true, func(seq uint64) ([]byte, error) {
		n.Seq = seq
		return n.encode()
	})
	return err
}

func (tx *NamesTx) byFile(file string) *Name {
	for _, n := range tx.names {
		if n.fileName() == file {
			return n
		}
	}
	return nil
}

func (tx *NamesTx) forget(file string) {
	tx.names = slices.DeleteFunc(tx.names, func(n *Name) bool { return n.fileName() == file })
}
