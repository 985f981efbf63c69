package cache

import (
	"testing"
	"time"
)

// filled is a cache with two results, the second made of the first.
func filled(t *testing.T) (c *Cache, first, second string) {
	t.Helper()
	c = newCache(t)
	l := lease(t, c)
	a := publish(t, c, l, "a", make([]byte, 1<<20))
	b := publish(t, c, l, "b", make([]byte, 2<<20))
	first = put(t, c, Record{Kind: "file", Description: "COPY a", Layers: []string{a}, Size: 1 << 20})
	second = put(t, c, Record{Kind: "exec", Description: "RUN b", Layers: []string{b}, Parents: []string{first}, Size: 2 << 20})
	must(t, c.Link(first, first))
	must(t, c.Link(second, second))
	l.Close()
	return c, first, second
}

func there(t *testing.T, c *Cache, id string) bool {
	t.Helper()
	r, ok, err := c.Get(id)
	must(t, err)
	if !ok {
		return false
	}
	l := lease(t, c)
	defer l.Close()
	ok, err = c.Present(t.Context(), l, r.Layers)
	must(t, err)
	return ok
}

func TestPruneKeepsWhatIsKnown(t *testing.T) {
	c, first, second := filled(t)
	before, err := c.Usage(t.Context())
	must(t, err)
	if before.Total < 3<<20 || before.Reclaimable < 3<<20 {
		t.Errorf("usage %+v", before)
	}
	dry, err := c.Prune(t.Context(), &PruneOptions{DryRun: true})
	must(t, err)
	if !there(t, c, first) || !there(t, c, second) || dry.Bytes < 3<<20 {
		t.Fatalf("a dry run took something, or found %d bytes", dry.Bytes)
	}
	done, err := c.Prune(t.Context(), nil)
	must(t, err)
	if there(t, c, first) || there(t, c, second) || done.Bytes != dry.Bytes {
		t.Errorf("layers are there still, or %d bytes instead of %d", done.Bytes, dry.Bytes)
	}
	// What the results were is still known.
	if id, ok, err := c.Find(second); err != nil || !ok || id != second {
		t.Errorf("find: %s %v %v", id, ok, err)
	}
	if _, ok, err := c.Get(second); err != nil || !ok {
		t.Errorf("get: %v %v", ok, err)
	}
	if _, err := c.Prune(t.Context(), &PruneOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	if _, ok, _ := c.Get(second); ok {
		t.Error("all was to be forgotten")
	}
}

func TestPruneSparesWhatIsUsed(t *testing.T) {
	c, first, second := filled(t)
	l := lease(t, c)
	r, _, err := c.Get(first)
	must(t, err)
	if ok, err := c.Present(t.Context(), l, r.Layers); err != nil || !ok {
		t.Fatal(ok, err)
	}
	d, err := c.Dir(t.Context(), "mount", "", nil)
	must(t, err)
	defer d.Close()
	if _, err := c.Prune(t.Context(), &PruneOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	if there(t, c, second) {
		t.Error("what nobody uses is there")
	}
	other := lease(t, c)
	defer other.Close()
	if ok, err := c.Present(t.Context(), other, r.Layers); err != nil || !ok {
		t.Errorf("a leased layer went: %v", err)
	}
	if u, err := c.Usage(t.Context()); err != nil || len(u.Items) == 0 {
		t.Errorf("the mount in use went: %+v, %v", u, err)
	}
}

func TestPruneByFilter(t *testing.T) {
	c, first, second := filled(t)
	if p, err := c.Prune(t.Context(), &PruneOptions{Unused: time.Hour}); err != nil || len(p.Items) != 0 {
		t.Errorf("by age: %+v, %v", p, err)
	}
	if _, err := c.Prune(t.Context(), &PruneOptions{Description: "RUN"}); err != nil {
		t.Fatal(err)
	}
	if !there(t, c, first) || there(t, c, second) {
		t.Error("by description")
	}
}

// The one that was used last stays.
func TestCap(t *testing.T) {
	c := newCache(t)
	l := lease(t, c)
	a := put(t, c, Record{Kind: "file", Layers: []string{publish(t, c, l, "a", make([]byte, 2<<20))}, Created: time.Now().Add(-time.Hour), Used: time.Now().Add(-time.Hour)})
	b := put(t, c, Record{Kind: "file", Layers: []string{publish(t, c, l, "b", make([]byte, 2<<20))}, Created: time.Now(), Used: time.Now()})
	l.Close()
	if _, err := c.Cap(t.Context(), 3<<20); err != nil {
		t.Fatal(err)
	}
	if there(t, c, a) || !there(t, c, b) {
		t.Errorf("kept %v, %v", there(t, c, a), there(t, c, b))
	}
}
