package cache

import (
	"fmt"
	"testing"
)

// BenchmarkUnchanged is what the cache costs a build of 30 steps that has
// nothing to do, each step asked for by itself.
func BenchmarkUnchanged(b *testing.B) {
	c := newCache(b)
	const steps = 30
	var keys, ids, layers []string
	l := lease(b, c)
	for i := range steps {
		layers = append(layers, publish(b, c, l, fmt.Sprint(i), []byte("x")))
		ids = append(ids, put(b, c, Record{Kind: "exec", Description: "[build 7/30] RUN make", Layers: append([]string(nil), layers...), Parents: ids[max(0, i-1):]}))
		keys = append(keys, randomName())
		must(b, c.Link(keys[i], ids[i]))
	}
	c.Sync()
	c.s.Wait()
	b.Run("find, get, present", func(b *testing.B) {
		for b.Loop() {
			l, err := c.s.Lease(b.Context())
			must(b, err)
			for _, key := range keys {
				id, ok, err := c.Find(key)
				r, has, err2 := c.Get(id)
				there, err3 := c.Present(b.Context(), l, r.Layers)
				if !ok || !has || !there || err != nil || err2 != nil || err3 != nil {
					b.Fatal(ok, has, there, err, err2, err3)
				}
			}
			l.Close()
		}
	})
	b.Run("touch", func(b *testing.B) {
		for b.Loop() {
			must(b, c.Touch(ids...))
		}
	})
	b.Run("put", func(b *testing.B) {
		for b.Loop() {
			for i, id := range ids {
				must(b, c.Put(&Record{ID: id, Kind: "exec", Layers: layers[:i+1]}))
			}
		}
	})
}
