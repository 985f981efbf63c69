package cache

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/layers"
	"github.com/amphora-go/amphora/internal/store"
)

// surveyRecords adds the results.
func (c *Cache) surveyRecords(ctx context.Context, v *survey) error {
	var all []*Record
	err := c.eachRecord(func(r *Record) { all = append(all, r) })
	if err != nil {
		return err
	}
	held, err := c.s.Needs(ctx)
	if err != nil {
		return err
	}
	b := &surveyor{c: c, v: v, held: held, byID: map[string]*Record{}}
	for _, r := range all {
		b.byID[r.ID] = r
	}
	for _, r := range all {
		if err := b.record(ctx, r); err != nil {
			return err
		}
	}
	for _, e := range v.entries {
		b.complete(e)
	}
	return nil
}

// eachRecord calls f with all records that can be read.
func (c *Cache) eachRecord(f func(*Record)) error {
	err := store.EachBuildRecord(c.s.BuildRecords(), func(path string, data []byte) error {
		info, err := os.Stat(path)
		if err != nil {
			if absent(err) {
				return nil
			}
			return err
		}
		if r := decode(data, strings.TrimSuffix(filepath.Base(path), ".json"), info.ModTime()); r != nil {
			f(r)
		}
		return nil
	})
	return c.s.Trouble(err)
}

type surveyor struct {
	c    *Cache
	v    *survey
	held *store.Needs
	byID map[string]*Record
}

func (b *surveyor) record(ctx context.Context, r *Record) error {
	e := &entry{rec: r, Item: Item{ID: r.ID, Type: TypeLayer, Description: r.Description, Parents: r.Parents,
		Created: r.Created, Used: r.Used, Uses: r.Uses}}
	b.v.entries = append(b.v.entries, e)
	if r.Virtual {
		e.Type = TypeRecord
		return nil
	}
	inherited := b.inherited(r)
	seen := map[string]bool{}
	for i, name := range r.Layers {
		target := layers.Target(b.c.s.Root(), name)
		if seen[target] {
			continue
		}
		seen[target] = true
		p, known := b.v.part(target)
		if !known {
			var err error
			if p.disk, err = b.c.s.LayerDisk(ctx, target); err != nil {
				return err
			}
			p.kept, p.leased = b.held.Layers[target], b.held.Leased[target]
		}
		e.parts = append(e.parts, p)
		if !inherited[name] && (len(inherited) > 0 || r.Image != "" || i == len(r.Layers)-1) {
			e.own = append(e.own, p)
		}
	}
	b.blobs(e)
	for _, p := range e.parts {
		p.users++
		if r.Used.After(p.used) {
			p.used = r.Used
		}
	}
	return nil
}

// inherited are the layers that a result has from its parents. It is empty
// when those are not known, too: then only the topmost layer is its own.
func (b *surveyor) inherited(r *Record) map[string]bool {
	have := map[string]bool{}
	for _, id := range r.Parents {
		if p := b.byID[id]; p != nil {
			for _, name := range p.Layers {
				have[name] = true
			}
		}
	}
	return have
}

// blobs adds those of the image that a result came with.
func (b *surveyor) blobs(e *entry) {
	if e.rec.Image == "" {
		return
	}
	for d, size := range b.c.s.BlobSizes(digest.Digest(e.rec.Image)) {
		p, known := b.v.part(string(d))
		if !known {
			p.disk, p.kept = size, b.held.Blobs[d]
		}
		e.parts = append(e.parts, p)
		e.own = append(e.own, p)
	}
}

// complete fills in what depends on all records.
func (b *surveyor) complete(e *entry) {
	e.order = e.Used
	e.Shared = len(e.own) > 0
	for _, p := range e.own {
		e.Size += p.disk
		e.InUse = e.InUse || p.leased
		e.Shared = e.Shared && p.kept
		// What others build on is as young as those.
		if p.used.After(e.order) {
			e.order = p.used
		}
	}
}

// names lists a directory; one that is not there is empty.
func names(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		if absent(err) {
			err = nil
		}
		return nil, err
	}
	defer f.Close()
	list, err := f.Readdirnames(-1)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return list, err
}

// slotsBelow lists the slots in dir/HASH.
func (c *Cache) slotsBelow(dir string) ([]string, error) {
	hashes, err := names(dir)
	if err != nil {
		return nil, err
	}
	var slots []string
	for _, h := range hashes {
		list, err := numbers(filepath.Join(dir, h))
		if err != nil {
			return nil, err
		}
		for _, n := range list {
			slots = append(slots, filepath.Join(dir, h, strconv.Itoa(n)))
		}
	}
	return slots, nil
}

// surveySlot adds a cache mount or what a source keeps.
func (c *Cache) surveySlot(ctx context.Context, v *survey, dir, kind string) error {
	info, ok, err := readSlot(dir)
	if err != nil {
		return c.s.Trouble(err)
	}
	if !ok {
		return nil // whoever uses it next makes it anew
	}
	e := &entry{slot: dir, order: info.Used, Item: Item{ID: slotID(kind, dir), Type: kind, Created: info.Created, Used: info.Used, Uses: info.Uses}}
	e.Description = strings.TrimPrefix(kind, TypeSource+".") + " " + info.Key
	if kind == TypeMount {
		e.Description = "cache mount " + info.Key
	}
	l, err := flock.Try(dir+".lock", flock.Exclusive)
	switch {
	case errors.Is(err, flock.ErrHeld):
		e.InUse = true
	case absent(err):
		return nil // pruned
	case err != nil:
		return c.s.Trouble(err)
	default:
		defer l.Release()
	}
	if e.Size, err = c.slotSize(ctx, dir, info.Used, e.InUse); err != nil {
		if absent(err) {
			return nil
		}
		return c.s.Trouble(err)
	}
	v.entries = append(v.entries, e)
	return nil
}

// slotID names a slot in lists.
func slotID(kind, dir string) string {
	return hashed(kind + " " + filepath.Base(filepath.Dir(dir)) + " " + filepath.Base(dir))
}

// measured is the file size.json of a slot: what it took up after a use.
type measured struct {
	Used time.Time `json:"used"`
	Disk int64     `json:"disk"`
}

// slotSize is what a slot takes up on disk. It is measured again after each use,
// when somebody asks, not at its end: many uses may pass before somebody does.
func (c *Cache) slotSize(ctx context.Context, dir string, used time.Time, inUse bool) (int64, error) {
	file := filepath.Join(dir, "size.json")
	var m measured
	if data, err := os.ReadFile(file); err == nil && !inUse && json.Unmarshal(data, &m) == nil && m.Used.Equal(used) && m.Disk > 0 {
		return m.Disk, nil
	}
	_, disk, err := store.Measure(ctx, filepath.Join(dir, "data"))
	if err != nil || inUse {
		return disk, err
	}
	return disk, c.write(file, measured{Used: used, Disk: disk})
}
