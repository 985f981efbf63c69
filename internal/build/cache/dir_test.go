package cache

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/amphora-go/amphora/internal/build/op"
)

func enter(t testing.TB, c *Cache, id, sharing string, seed func(string) error) *Dir {
	t.Helper()
	d, err := c.Dir(t.Context(), id, sharing, seed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// short is a context for what is expected to wait for ever.
func short(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestSharing(t *testing.T) {
	c := newCache(t)
	seeds := 0
	seed := func(dir string) error {
		seeds++
		return errors.Join(os.WriteFile(filepath.Join(dir, "seed"), []byte("s"), 0o600), os.Chmod(dir, 0o777|os.ModeSticky))
	}
	a, b := enter(t, c, "x", op.Shared, seed), enter(t, c, "x", "", seed)
	if a.Path() != b.Path() || seeds != 1 {
		t.Errorf("shared: %s and %s, %d seeds", a.Path(), b.Path(), seeds)
	}
	if info, err := os.Stat(a.Path()); err != nil || info.Mode()&os.ModeSticky == 0 {
		t.Errorf("the mode that seed gave: %v, %v", info.Mode(), err)
	}
	if _, err := c.Dir(short(t), "x", op.Locked, seed); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("locked beside shared: %v", err)
	}
	p := enter(t, c, "x", op.Private, seed)
	q := enter(t, c, "x", op.Private, seed)
	if p.Path() == a.Path() || p.Path() == q.Path() || seeds != 3 {
		t.Errorf("private: %s and %s, %d seeds", p.Path(), q.Path(), seeds)
	}
	must(t, p.Close())
	must(t, p.Close())
	if again := enter(t, c, "x", op.Private, seed); again.Path() != p.Path() || seeds != 3 {
		t.Errorf("a free one is not used again: %s, %d seeds", again.Path(), seeds)
	}
	must(t, errors.Join(a.Close(), b.Close()))
	x := enter(t, c, "x", op.Locked, seed)
	if x.Path() != a.Path() || x.info.Uses != 1 && x.info.Uses != 2 {
		t.Errorf("locked: %s, used %d times before", x.Path(), x.info.Uses)
	}
	if _, err := c.Dir(short(t), "x", op.Shared, seed); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shared beside locked: %v", err)
	}
	if other := enter(t, c, "y", op.Locked, nil); other.Path() == x.Path() {
		t.Error("two mounts are one")
	}
	if _, err := c.Dir(t.Context(), "x", "mine", nil); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("unknown sharing: %v", err)
	}
}

func TestFailedSeed(t *testing.T) {
	c := newCache(t)
	for _, sharing := range []string{op.Shared, op.Private, op.Locked} {
		_, err := c.Dir(t.Context(), sharing, sharing, func(dir string) error {
			os.WriteFile(filepath.Join(dir, "half"), nil, 0o600)
			return fs.ErrNotExist
		})
		if err != fs.ErrNotExist {
			t.Errorf("%s: %v, want the error of seed as it is", sharing, err)
		}
		d := enter(t, c, sharing, sharing, nil)
		if left, err := os.ReadDir(d.Path()); err != nil || len(left) != 0 {
			t.Errorf("%s: %v, %v", sharing, left, err)
		}
	}
}

// What was written in another boot and never synced is not used.
func TestMountOfAnotherBoot(t *testing.T) {
	c := newCache(t)
	write := func(d *Dir) { must(t, os.WriteFile(filepath.Join(d.Path(), "f"), []byte("f"), 0o600)) }
	d := enter(t, c, "x", op.Locked, nil)
	write(d)
	mark := filepath.Join(d.dir, "pending")
	c.Sync() // while it is in use: the mark stays
	c.s.Wait()
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("in use, without its mark: %v", err)
	}
	must(t, d.Close())
	other := openAt(c.s.Root())
	late := enter(t, other, "x", op.Locked, nil)
	c.Sync() // while another process uses it
	c.s.Wait()
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("in use elsewhere, without its mark: %v", err)
	}
	must(t, late.Close())
	other.Sync()
	other.s.Wait()
	if _, err := os.Stat(mark); !os.IsNotExist(err) {
		t.Errorf("the mark stays after the sync: %v", err)
	}
	d = enter(t, c, "x", op.Locked, nil)
	if _, err := os.Stat(filepath.Join(d.Path(), "f")); err != nil {
		t.Error(err)
	}
	must(t, d.Close())
	must(t, os.WriteFile(mark, []byte("another boot\n"), 0o600))
	d = enter(t, c, "x", op.Shared, nil)
	if left, _ := os.ReadDir(d.Path()); len(left) != 0 {
		t.Errorf("after a loss of power it has %v", left)
	}
}

func TestSourceDir(t *testing.T) {
	c := newCache(t)
	d, err := c.SourceDir(t.Context(), "http", "https://example.com/a")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(d.Path(), "etag"), []byte("1"), 0o600))
	if _, err := c.SourceDir(short(t), "http", "https://example.com/a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second user: %v", err)
	}
	must(t, d.Close())
	d, err = c.SourceDir(t.Context(), "http", "https://example.com/a")
	must(t, err)
	if data, err := os.ReadFile(filepath.Join(d.Path(), "etag")); err != nil || string(data) != "1" {
		t.Errorf("%q, %v", data, err)
	}
	must(t, d.Close())
	if _, err := c.SourceDir(t.Context(), "../x", "k"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a bad kind: %v", err)
	}
}
