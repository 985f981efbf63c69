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
	"regexp"
	"slices"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
)

// Names of containers and volumes: Docker's rule.
var nameRule = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// maxName keeps a name usable as a host name label's file name.
const maxName = 200

// CheckName says whether a container or volume may be called that.
func CheckName(name string) error {
	if !nameRule.MatchString(name) || len(name) > maxName {
		return fault.Invalid("invalid name %q: use two to %d letters, digits, '_', '.' or '-', beginning with a letter or digit", name, maxName)
	}
	return nil
}

var idRule = regexp.MustCompile(`^[0-9a-f]{64}$`)

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
		if idRule.MatchString(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

func (r *Root) namePath(name string) string { return filepath.Join(r.Dir, "names", name) }

// reserve takes a name for a container: a symlink, which the kernel makes
// with its content or not at all. A name whose holder is gone is taken over.
func (r *Root) reserve(name, id string) error {
	if err := os.MkdirAll(filepath.Join(r.Dir, "names"), 0o700); err != nil {
		return fault.Opaque(err)
	}
	for range 3 {
		err := os.Symlink(id, r.namePath(name))
		if !errors.Is(err, os.ErrExist) {
			return fault.Opaque(err)
		}
		holder, err := os.Readlink(r.namePath(name))
		if err == nil {
			if holder == id {
				return nil
			}
			stale, err := r.staleName(name, holder)
			if err != nil {
				return err
			}
			if !stale {
				return fault.Kind(os.ErrExist, "the name %q is taken by container %s: remove or rename that one, or choose another name", name, Short(holder))
			}
			r.release(name, holder)
		}
	}
	return fault.Kind(os.ErrExist, "the name %q is being taken by another process", name)
}

// staleName reports whether a name belongs to nobody: its container is gone,
// or was left half-made, or is called otherwise, and nobody works on it.
func (r *Root) staleName(name, holder string) (bool, error) {
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
	if holder, err := os.Readlink(r.namePath(name)); err == nil && holder == id {
		os.Remove(r.namePath(name))
	}
}

// Find returns the id of the container with that name, id, or unique
// beginning of an id, in this order.
func (r *Root) Find(ref string) (string, error) {
	if ref == "" {
		return "", fault.Invalid("the container's name is empty")
	}
	if idRule.MatchString(ref) {
		if _, err := os.Stat(r.Path(ref, "record.json")); err == nil {
			return ref, nil
		}
	}
	if !strings.ContainsAny(ref, "/\x00") {
		if id, err := os.Readlink(r.namePath(ref)); err == nil && idRule.MatchString(id) {
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

var (
	adjectives = strings.Fields("amber ample bold brave brisk calm civil clear clever cosy crisp deft eager early fair fleet fond gentle glad grand happy hardy keen kind lively loyal lucid mellow merry mild neat nimble noble patient plain proud quick quiet ready round sharp silent smart snug solid steady still sunny swift tidy vivid warm wise witty young")
	nouns      = strings.Fields("acorn alder anchor apple badger barley basket beacon birch brook cedar clover cobalt comet copper crane delta ember falcon fern finch garnet harbor hazel heron ibis iris island ivy jasper juniper kettle lantern larch lemon linden lotus maple meadow mica moss nectar oak olive onyx opal orchid otter pebble pine plum poplar quartz quill raven reed robin rowan saffron sage spruce thistle tulip walnut willow wren")
)

// randomName makes an adjective_noun; later tries add digits.
func randomName(try int) string {
	pick := func(n int) int64 {
		i, _ := rand.Int(rand.Reader, big.NewInt(int64(n)))
		return i.Int64()
	}
	name := adjectives[pick(len(adjectives))] + "_" + nouns[pick(len(nouns))]
	if try > 3 {
		name = fmt.Sprintf("%s%d", name, pick(100000))
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
func (r *Root) SweepNames() error {
	entries, err := os.ReadDir(filepath.Join(r.Dir, "names"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.Opaque(err)
	}
	for _, e := range entries {
		holder, err := os.Readlink(r.namePath(e.Name()))
		if err != nil || !idRule.MatchString(holder) {
			continue
		}
		if stale, err := r.staleName(e.Name(), holder); err == nil && stale {
			r.release(e.Name(), holder)
		}
	}
	return nil
}
