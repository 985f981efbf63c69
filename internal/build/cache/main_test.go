package cache

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/amphora-go/amphora/internal/journal"
	"github.com/amphora-go/amphora/internal/store"
	"github.com/amphora-go/amphora/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// openAt opens the cache of a Root, as another process would.
func openAt(root string) *Cache {
	return Open(store.Open(root, filepath.Join(root, "state"), journal.Open(filepath.Join(root, "journal"))))
}

func newCache(t testing.TB) *Cache {
	t.Helper()
	c := openAt(t.TempDir())
	t.Cleanup(c.s.Wait)
	return c
}

func lease(t testing.TB, c *Cache) *store.Lease {
	t.Helper()
	l, err := c.s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func randomName() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// publish makes a layer with one file.
func publish(t testing.TB, c *Cache, l *store.Lease, name string, content []byte) string {
	t.Helper()
	y, err := c.NewLayer(l)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(y.Upper, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(y.Upper, name), content, 0o644); err != nil {
		t.Fatal(err)
	}
	layer, size, err := y.Publish(t.Context(), l)
	if err != nil || size != int64(len(content)) {
		t.Fatalf("publish: size %d, %v", size, err)
	}
	return layer
}

func put(t testing.TB, c *Cache, r Record) string {
	t.Helper()
	if r.ID == "" {
		r.ID = randomName()
	}
	if err := c.Put(&r); err != nil {
		t.Fatal(err)
	}
	return r.ID
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
