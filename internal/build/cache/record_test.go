package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/amphora-go/amphora/internal/flock"
)

func TestRecordsAndKeys(t *testing.T) {
	c := newCache(t)
	key, id := randomName(), randomName()
	if _, ok, err := c.Find(key); ok || err != nil {
		t.Fatalf("an empty cache finds: %v, %v", ok, err)
	}
	if _, ok, err := c.Get(id); ok || err != nil {
		t.Fatalf("an empty cache has: %v, %v", ok, err)
	}
	want := Record{ID: id, Kind: "exec", Description: "RUN make", Layers: []string{randomName(), randomName()}, Parents: []string{randomName()},
		Image: "sha256:" + randomName(), Ref: "docker.io/library/a:1", Size: 5, Created: time.Now().Add(-time.Hour).Round(0), Content: "sha256:" + randomName()}
	must(t, c.Put(&want))
	must(t, c.Link(key, id))
	if got, ok, err := c.Find(key); got != id || !ok || err != nil {
		t.Errorf("found %q, %v, %v", got, ok, err)
	}
	before := time.Now().Add(-time.Second)
	must(t, c.Touch(id, id, randomName()))
	got, ok, err := c.Get(id)
	if err != nil || !ok {
		t.Fatalf("get: %v, %v", ok, err)
	}
	if got.Uses != 2 || got.Used.Before(before) {
		t.Errorf("used %d times, last %s", got.Uses, got.Used)
	}
	again := *got
	must(t, c.Put(&again)) // keeps the count
	if r, _, _ := c.Get(id); r == nil || r.Uses != 2 {
		t.Errorf("after another Put: %+v", r)
	}
	got.Version, got.Uses, got.Used = 0, 0, time.Time{}
	got.Created = want.Created // another location
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("got %+v\nwant %+v", *got, want)
	}
	for _, bad := range []string{"", "a", strings.Repeat("A", 64), "../" + key[3:]} {
		_, _, err1 := c.Find(bad)
		_, _, err2 := c.Get(bad)
		_, err3 := c.Lock(t.Context(), bad)
		for _, err := range []error{err1, err2, err3, c.Link(key, bad), c.Link(bad, id), c.Put(&Record{ID: bad}), c.Touch(bad)} {
			if !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("%q: %v", bad, err)
			}
		}
	}
}

// What is torn, of another version, or of somebody else is not there, and can
// be written again.
func TestDamagedFilesAreMisses(t *testing.T) {
	c := newCache(t)
	key, id, other := randomName(), randomName(), randomName()
	record, link := c.sharded("records", id, ".json"), c.sharded("keys", key, ".json")
	good := Record{ID: id, Kind: "file", Layers: []string{randomName()}}
	must(t, c.Put(&good))
	must(t, c.Link(key, id))
	data, err := os.ReadFile(record)
	must(t, err)
	text := string(data)
	for _, bad := range []string{
		"", "\n", "{}", "null", "[]", text[:len(text)/2], strings.Repeat("\x00", len(text)), text + "\x00",
		strings.Replace(text, id, other, 1), strings.Replace(text, `"version":1`, `"version":2`, 1),
		strings.Replace(text, good.Layers[0], "../../etc", 1), strings.Replace(text, `"kind"`, `"image":"sha256:x","kind"`, 1),
	} {
		must(t, os.WriteFile(record, []byte(bad), 0o600))
		if r, ok, err := c.Get(id); ok || err != nil || r != nil {
			t.Errorf("%q: %v, %v", bad, ok, err)
		}
		must(t, c.Touch(id))
	}
	must(t, c.Put(&good))
	if _, ok, _ := c.Get(id); !ok {
		t.Error("not written again")
	}
	for _, bad := range []string{"", id, fmt.Sprintf(`{"version":1,"key":%q,"id":%q}`, other, id), fmt.Sprintf(`{"version":2,"key":%q,"id":%q}`, key, id),
		fmt.Sprintf(`{"version":1,"key":%q,"id":"x"}`, key)} {
		must(t, os.WriteFile(link, []byte(bad), 0o600))
		if got, ok, err := c.Find(key); ok || err != nil {
			t.Errorf("%q: found %q, %v", bad, got, err)
		}
	}
	must(t, c.Link(key, id))
	if got, ok, _ := c.Find(key); !ok || got != id {
		t.Error("not linked again")
	}
}

func TestLock(t *testing.T) {
	c := newCache(t)
	key := randomName()
	l, err := c.Lock(t.Context(), key)
	must(t, err)
	if _, err := flock.Try(c.sharded("locks", key, ""), flock.Exclusive); !errors.Is(err, flock.ErrHeld) {
		t.Errorf("not held: %v", err)
	}
	other, err := c.Lock(t.Context(), randomName())
	must(t, err)
	other.Release()
	l.Release()
	l, err = c.Lock(t.Context(), key)
	must(t, err)
	l.Release()
}
