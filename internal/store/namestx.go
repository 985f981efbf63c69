package store

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/journal"
	"github.com/amphora-go/amphora/internal/step"
)

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

// Give is Put for a name that another image may have: that image stays, without
// a name if it had no other.
func (tx *NamesTx) Give(ctx context.Context, action string, n Name) error {
	if old := tx.Get(n.Name); old != nil && old.ImageID != n.ImageID && len(tx.Of(old.ImageID)) == 1 {
		if err := tx.Keep(old); err != nil {
			return err
		}
	}
	if err := tx.Put(ctx, action, n); err != nil {
		return err
	}
	if n.Name == "" {
		return nil
	}
	for _, other := range tx.Of(n.ImageID) {
		if other.Name == "" {
			return tx.Drop(other)
		}
	}
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

// Take takes a name away, and with its last name the image.
func (tx *NamesTx) Take(ctx context.Context, n *Name) error {
	last := len(tx.Of(n.ImageID)) == 1
	if last {
		// A kill before the end leaves an image without a name.
		if err := tx.Keep(n); err != nil {
			return err
		}
	}
	if err := tx.Remove(ctx, "untag", n); err != nil || !last {
		return err
	}
	for _, nameless := range tx.Of(n.ImageID) {
		if err := tx.Remove(ctx, "delete", nameless); err != nil {
			return err
		}
	}
	return nil
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
