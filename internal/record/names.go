package record

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
)

// maxName keeps a name usable as a host name label's file name.
const maxName = 200

// CheckName says whether a container or volume may be called that.
func CheckName(name string) error {
	if !validName(name) {
		return fault.Invalid("invalid name %q: use two to %d letters, digits, '_', '.' or '-', beginning with a letter or digit", name, maxName)
	}
	return nil
}

// validName is Docker's rule: [a-zA-Z0-9][a-zA-Z0-9_.-]+. By hand: this
// package is initialised in every supervisor, and regular expressions are
// compiled then.
func validName(name string) bool {
	for i, c := range []byte(name) {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		case i > 0 && (c == '_' || c == '.' || c == '-'):
		default:
			return false
		}
	}
	return len(name) >= 2 && len(name) <= maxName
}

// IsID reports whether s is a container's id: 64 lower-case hex digits.
func IsID(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// NewID returns a random id of 64 hex digits. Its first 12 never look like a
// decimal number, which some clients would take for one.
func NewID() string {
	for {
		var b [32]byte
		rand.Read(b[:])
		id := hex.EncodeToString(b[:])
		if strings.ContainsAny(id[:12], "abcdef") {
			return id
		}
	}
}

// IDs lists the containers' ids, sorted.
func (r *Root) IDs() ([]string, error) {
	entries, err := os.ReadDir(r.Containers())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fault.Opaque(err)
	}
	ids := make([]string, 0, len(entries))
	for _, e := range entries {
		if IsID(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

func (r *Root) namePath(name string) string { return filepath.Join(r.Dir, "names", name) }

// reserve takes a name for a container: a symlink, which the kernel makes
// with its content or not at all. A name whose holder is gone is taken over.
func (r *Root) reserve(ctx context.Context, name, id string) error {
	if err := os.MkdirAll(filepath.Join(r.Dir, "names"), 0o700); err != nil {
		return fault.Opaque(err)
	}
	for range 3 {
		err := os.Symlink(id, r.namePath(name))
		if !errors.Is(err, os.ErrExist) {
			return fault.Opaque(err)
		}
		holder, err := r.freeName(ctx, name)
		if err != nil {
			return err
		}
		if holder == id {
			return nil
		}
		if holder != "" {
			return fault.Kind(os.ErrExist, "the name %q is taken by container %s: remove or rename that one, or choose another name", name, Short(holder))
		}
	}
	return fault.Kind(os.ErrExist, "the name %q is being taken by another process", name)
}

// freeName gives a name back that belongs to nobody. It returns whom it
// belongs to otherwise. A lock keeps two who do so apart: the second would
// take the name from its new holder.
func (r *Root) freeName(ctx context.Context, name string) (holder string, err error) {
	l, err := flock.Acquire(ctx, r.namePath(".lock"), flock.Exclusive) // no name begins with a dot
	if err != nil {
		return "", fault.Opaque(err)
	}
	defer l.Release()
	holder, err = os.Readlink(r.namePath(name))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fault.Opaque(err)
	}
	stale, err := r.staleName(ctx, name, holder)
	if err != nil || !stale {
		return holder, err
	}
	r.release(name, holder)
	return "", nil
}

// staleName reports whether a name belongs to nobody: its container is gone,
// or was left half-made, or is called otherwise, and nobody works on it.
func (r *Root) staleName(ctx context.Context, name, holder string) (bool, error) {
	l, err := flock.Try(r.Path(holder, "lock"), flock.Exclusive)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if errors.Is(err, flock.ErrHeld) {
		return false, nil
	}
	if err != nil {
		return false, fault.Opaque(err)
	}
	defer l.Release()
	if err := r.settle(ctx, holder); err != nil {
		return false, err
	}
	c, err := r.Load(holder)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, nil // damaged: its name stays with it
	}
	return c.Name != name, nil
}

// release gives a name back if it still is that container's.
func (r *Root) release(name, id string) {
	if name == "" {
		return
	}
	if holder, err := os.Readlink(r.namePath(name)); err == nil && holder == id {
		os.Remove(r.namePath(name))
	}
}

// Find returns the id of the container with that name, id, or unique
// beginning of an id, in this order.
func (r *Root) Find(ctx context.Context, ref string) (string, error) {
	if ref == "" {
		return "", fault.Invalid("the container's name is empty")
	}
	if IsID(ref) {
		if _, err := os.Stat(r.Path(ref, "record.json")); err == nil {
			return ref, nil
		}
	}
	if !strings.ContainsAny(ref, "/\x00") {
		if id, err := os.Readlink(r.namePath(ref)); err == nil && IsID(id) && r.Settle(ctx, id) == nil {
			if c, err := r.Load(id); err == nil && c.Name == ref {
				return id, nil
			}
		}
	}
	ids, err := r.IDs()
	if err != nil {
		return "", err
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { return !strings.HasPrefix(id, ref) })
	switch len(ids) {
	case 0:
		return "", fault.NotExist("no such container")
	case 1:
		return ids[0], nil
	}
	return "", fault.Invalid("%d containers have ids that begin with %q: give more digits", len(ids), ref)
}

const (
	adjectives = "amber ample bold brave brisk calm civil clear clever cosy crisp deft eager early fair fleet fond gentle glad grand happy hardy keen kind lively loyal lucid mellow merry mild neat nimble noble patient plain proud quick quiet ready round sharp silent smart snug solid steady still sunny swift tidy vivid warm wise witty young"
	nouns      = "acorn alder anchor apple badger barley basket beacon birch brook cedar clover cobalt comet copper crane delta ember falcon fern finch garnet harbor hazel heron ibis iris island ivy jasper juniper kettle lantern larch lemon linden lotus maple meadow mica moss nectar oak olive onyx opal orchid otter pebble pine plum poplar quartz quill raven reed robin rowan saffron sage spruce thistle tulip walnut willow wren"
)

// randomName makes an adjective_noun; later tries add digits.
func randomName(try int) string {
	number := func(n int) int64 {
		i, _ := rand.Int(rand.Reader, big.NewInt(int64(n)))
		return i.Int64()
	}
	pick := func(words string) string {
		list := strings.Fields(words)
		return list[number(len(list))]
	}
	name := pick(adjectives) + "_" + pick(nouns)
	if try > 3 {
		name = fmt.Sprintf("%s%d", name, number(100000))
	}
	return name
}

// DropHalfMade removes a container's directory that never got a record, if
// nobody is making it.
func (r *Root) DropHalfMade(ctx context.Context, id string) (bool, error) {
	l, err := flock.Try(r.Path(id, "lock"), flock.Exclusive)
	if err != nil {
		return false, err
	}
	defer l.Release()
	if err := r.settle(ctx, id); err != nil {
		return false, err
	}
	if _, err := os.Stat(r.Path(id, "record.json")); !errors.Is(err, os.ErrNotExist) {
		return false, fault.Opaque(err)
	}
	empty, err := r.Discard(r.Path(id))
	if err != nil {
		return false, err
	}
	return true, empty()
}

// SweepNames gives back the names whose containers are gone.
func (r *Root) SweepNames(ctx context.Context) error {
	entries, err := os.ReadDir(filepath.Join(r.Dir, "names"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.Opaque(err)
	}
	for _, e := range entries {
		if e.Type()&os.ModeSymlink == 0 {
			continue
		}
		if _, err := r.freeName(ctx, e.Name()); err != nil {
			return err
		}
	}
	return nil
}
