package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/layers"
	"github.com/amphora-go/amphora/internal/store"
)

// Record says what a result is.
type Record struct {
	Version int `json:"version"` // set by Put
	// ID names the result: 64 hexadecimal digits. Equal results have equal ids.
	ID          string `json:"id"`
	Kind        string `json:"kind"` // of the operation
	Description string `json:"description,omitempty"`
	// Layers are the names of its layers, bottom to top; none: an empty tree.
	Layers []string `json:"layers,omitempty"`
	// Parents are the ids of the results that it was made of.
	Parents []string `json:"parents,omitempty"`
	// Image is the digest of the manifest that the layers come from, if they
	// come from an image, and Ref its reference. The record keeps that image's
	// blobs as well.
	Image string `json:"image,omitempty"`
	Ref   string `json:"ref,omitempty"`
	// Size is that of the regular files of what it adds to its parents, in bytes.
	Size    int64     `json:"size"`
	Created time.Time `json:"created"`
	// Used and Uses are counted by Touch. Used is at least Created.
	Used time.Time `json:"-"`
	Uses int       `json:"uses,omitempty"`
	// Content is the hash of the topmost layer, "" when it is not known.
	Content string `json:"content,omitempty"`
	// Virtual says that Prune gave the layers up. They may still be there, and a
	// build that finds them may use them: Touch then keeps them again.
	Virtual bool `json:"virtual,omitempty"`
}

// A use is one more newline at the end of the record's file: it costs a single
// write, needs no lock, and makes the file's time that of the last use.

// decode reads a record's file. It is nil if that is torn or of somebody else.
func decode(data []byte, id string, used time.Time) *Record {
	r := new(Record)
	if json.Unmarshal(data, r) != nil || r.Version != version || r.ID != id {
		return nil
	}
	for _, n := range r.Layers {
		if !layers.IsName(n) {
			return nil
		}
	}
	if r.Image != "" && store.CheckDigest(digest.Digest(r.Image)) != nil {
		return nil
	}
	r.Uses += max(0, len(data)-len(bytes.TrimRight(data, "\n"))-1)
	r.Used = used
	if r.Used.Before(r.Created) { // the clock was changed
		r.Used = r.Created
	}
	return r
}

func readAll(f *os.File) ([]byte, time.Time, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	data := make([]byte, info.Size())
	n, err := io.ReadFull(f, data)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, time.Time{}, err
	}
	return data[:n], info.ModTime(), nil
}

// Get returns a record. The bool is false when there is none that can be read.
func (c *Cache) Get(id string) (*Record, bool, error) {
	if err := check("record", id); err != nil {
		return nil, false, err
	}
	return c.get(id)
}

func (c *Cache) get(id string) (*Record, bool, error) {
	f, err := os.Open(c.sharded("records", id, ".json"))
	if err != nil {
		if absent(err) {
			return nil, false, nil
		}
		return nil, false, c.s.Trouble(err)
	}
	defer f.Close()
	data, used, err := readAll(f)
	if err != nil {
		return nil, false, c.s.Trouble(err)
	}
	r := decode(data, id, used)
	return r, r != nil, nil
}

// Put writes a record, in place of one with the same id. The caller's lease
// names the layers, and is closed only afterwards.
func (c *Cache) Put(r *Record) error {
	if err := check("record", r.ID); err != nil {
		return err
	}
	for _, n := range r.Layers {
		if err := check("layer", n); err != nil {
			return err
		}
	}
	w := *r
	w.Version = version
	if w.Created.IsZero() {
		w.Created = time.Now()
	}
	return c.replacing(context.Background(), func() error {
		return c.write(c.sharded("records", w.ID, ".json"), &w)
	})
}

// replacing runs f with the lock under which records are replaced: Prune must
// not undo what a build wrote since it read the record.
func (c *Cache) replacing(ctx context.Context, f func() error) error {
	l, err := c.acquire(ctx, c.path("records.lock"), flock.Exclusive)
	if err != nil {
		return err
	}
	defer l.Release()
	return f()
}

// Touch notes that results were used. Those that are not there are left out.
func (c *Cache) Touch(ids ...string) error {
	for _, id := range ids {
		if err := check("record", id); err != nil {
			return err
		}
		if err := c.touch(id); err != nil && !absent(err) {
			return c.s.Trouble(err)
		}
	}
	return nil
}

func (c *Cache) touch(id string) error {
	f, err := os.OpenFile(c.sharded("records", id, ".json"), os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write([]byte("\n")); err != nil {
		return err
	}
	data, used, err := readAll(f)
	if err != nil || !bytes.Contains(data, []byte(`"virtual":true`)) {
		return err
	}
	r := decode(data, id, used)
	if r == nil {
		return nil
	}
	if missing, err := c.s.MissingLayers(r.Layers); err != nil || len(missing) > 0 {
		return err
	}
	r.Virtual = false
	return c.Put(r)
}

// alias is the file of a key.
type alias struct {
	Version int    `json:"version"`
	Key     string `json:"key"`
	ID      string `json:"id"`
}

// renewal is how old the time of a key's file, which is that of its last use,
// may become before a use renews it.
const renewal = 24 * time.Hour

// Find returns the id of the record that a key stands for.
func (c *Cache) Find(key string) (id string, ok bool, err error) {
	if err := check("key", key); err != nil {
		return "", false, err
	}
	path := c.sharded("keys", key, ".json")
	f, err := os.Open(path)
	if err != nil {
		if absent(err) {
			return "", false, nil
		}
		return "", false, c.s.Trouble(err)
	}
	defer f.Close()
	data, used, err := readAll(f)
	if err != nil {
		return "", false, c.s.Trouble(err)
	}
	var a alias
	if json.Unmarshal(data, &a) != nil || a.Version != version || a.Key != key || check("record", a.ID) != nil {
		return "", false, nil
	}
	if now := time.Now(); now.Sub(used) > renewal {
		os.Chtimes(path, now, now) // if not, it is forgotten early
	}
	return a.ID, true, nil
}

// Link lets a key stand for a record.
func (c *Cache) Link(key, id string) error {
	if err := errors.Join(check("key", key), check("record", id)); err != nil {
		return err
	}
	// On some file systems the rename over a file costs far more than this look.
	if have, ok, err := c.Find(key); err == nil && ok && have == id {
		return nil
	}
	return c.write(c.sharded("keys", key, ".json"), alias{Version: version, Key: key, ID: id})
}
