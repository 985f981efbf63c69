package local

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/build/tree"
	"github.com/amphora-go/amphora/internal/overlay"
)

func TestErrors(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	if _, err := (&Dir{Path: filepath.Join(dir, "none")}).Scan(ctx, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	if _, err := (&Dir{Path: filepath.Join(dir, "file")}).Scan(ctx, nil); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a file: %v", err)
	}
	for _, f := range []*Filter{{Include: []string{"a["}}, {Exclude: []string{"!"}}} {
		if _, err := (&Dir{Path: dir}).Scan(ctx, f); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%v: %v", f, err)
		}
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := (&Dir{Path: dir}).Scan(done, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// What links out of a context lead to is never looked at.
func TestLinksOut(t *testing.T) {
	out, dir := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(out, "secret"), []byte("1"), 0o600))
	must(t, os.Symlink(out, filepath.Join(dir, "abs")))
	must(t, os.Symlink("../"+filepath.Base(filepath.Dir(out))+"/"+filepath.Base(out), filepath.Join(dir, "rel")))
	d := &Dir{Path: dir}
	f := &Filter{Follow: []string{"abs/secret", "rel/secret"}}
	m := d.must(t, f)
	if got := m.lines(); len(got) != 2 {
		t.Errorf("%q", got)
	}
	for _, name := range []string{"/abs/secret", "/rel/secret", "/abs/", "/rel/*"} {
		if _, ok := m.Select(&op.Copy{Source: name, FollowLinks: true, Wildcards: true}); ok {
			t.Errorf("%s is selected", name)
		}
	}
	was := m.Digest()
	must(t, os.WriteFile(filepath.Join(out, "secret"), []byte("2"), 0o600))
	if d.must(t, f).Digest() != was {
		t.Error("a file outside counts")
	}
}

func TestHardLinks(t *testing.T) {
	one, two, away := t.TempDir(), t.TempDir(), t.TempDir()
	for _, d := range []string{one, two} {
		must(t, os.WriteFile(filepath.Join(d, "a"), []byte("x"), 0o644))
	}
	must(t, os.Link(filepath.Join(one, "a"), filepath.Join(one, "b")))
	must(t, os.WriteFile(filepath.Join(two, "b"), []byte("x"), 0o644))
	m1, m2 := (&Dir{Path: one}).must(t, nil), (&Dir{Path: two}).must(t, nil)
	all := &op.Copy{Source: "/", Contents: true}
	s1, _ := m1.Select(all)
	s2, _ := m2.Select(all)
	if m1.Digest() == m2.Digest() || s1 == s2 {
		t.Error("one file is as good as two")
	}
	single := &op.Copy{Source: "/a"}
	s1, _ = m1.Select(single)
	s2, _ = m2.Select(single)
	if s1 != s2 {
		t.Error("a name that is not taken counts")
	}
	was := m2.Digest()
	must(t, os.Link(filepath.Join(two, "b"), filepath.Join(away, "b")))
	if (&Dir{Path: two}).must(t, nil).Digest() != was {
		t.Error("a name elsewhere counts")
	}
}

func read(t *testing.T, dir string) []string {
	var list []string
	must(t, filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			data, err := os.ReadFile(name)
			must(t, err)
			list = append(list, strings.TrimPrefix(name, dir)+"="+string(data))
		}
		return err
	}))
	return list
}

// Mounts in a context belong to it, as they do for who walks over it.
func TestMountsInside(t *testing.T) {
	needRoot(t)
	d := small(t)
	sub := filepath.Join(d.Path, "b")
	must(t, unix.Mount("tmpfs", sub, "tmpfs", 0, ""))
	defer unix.Unmount(sub, unix.MNT_DETACH)
	for _, name := range []string{"in", "out"} {
		must(t, os.WriteFile(filepath.Join(sub, name), []byte(name), 0o644))
	}
	m := d.must(t, &Filter{Exclude: []string{"a", "b/out"}})
	lowers, err := m.View(lease(t))
	must(t, err)
	if got, want := read(t, mounted(t, lowers)), []string{"/4=4", "/b/in=in"}; !slices.Equal(got, want) {
		t.Errorf("%q instead of %q", got, want)
	}
}

// An overlay over an overlay can be no layer, and so cannot a directory that
// has the lease's in it: the view is a copy.
func TestViewWithoutLayers(t *testing.T) {
	needRoot(t)
	d := small(t)
	deep := d.Path
	for range 2 {
		target := t.TempDir()
		must(t, overlay.Mount(target, overlay.Layers{Lower: []string{t.TempDir(), deep}}))
		defer unix.Unmount(target, unix.MNT_DETACH)
		deep = target
	}
	m := (&Dir{Path: deep}).must(t, &Filter{Exclude: []string{"a"}})
	lowers, err := m.View(lease(t))
	must(t, err)
	if len(lowers) != 1 || lowers[0] == deep {
		t.Fatalf("%q", lowers)
	}
	if got, want := read(t, lowers[0]), []string{"/4=4", "/b/3=b/3"}; !slices.Equal(got, want) {
		t.Errorf("%q instead of %q", got, want)
	}
}

func TestOwners(t *testing.T) {
	needRoot(t)
	d := small(t)
	l := lease(t)
	must(t, os.Chmod(d.Path, 0o755))
	m := d.must(t, nil)
	lowers, err := m.Rooted(l)
	must(t, err)
	if !slices.Equal(lowers, []string{d.Path}) {
		t.Errorf("what belongs to root is copied: %q", lowers)
	}
	was := m.Digest()
	must(t, os.Lchown(filepath.Join(d.Path, "a/1"), 5, 6))
	must(t, os.Chmod(filepath.Join(d.Path, "a/1"), 0o4755))
	must(t, os.Chmod(filepath.Join(d.Path, "a/1"), 0o644))
	m = d.must(t, nil)
	if m.Digest() != was {
		t.Error("owners count")
	}
	lowers, err = m.Rooted(l)
	must(t, err)
	shown := (&Dir{Path: mounted(t, lowers)}).must(t, nil)
	if foreign(shown.root.kids) || shown.Digest() != was {
		t.Error("the copy is not root's, or not the same")
	}
	must(t, os.Chmod(d.Path, 0o700))
	lowers, err = d.must(t, nil).View(l)
	must(t, err)
	if fi, err := os.Stat(mounted(t, lowers)); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("the root: %v, %v", fi.Mode(), err)
	}
}

// A mount shows the same for paths that lead to the same, and exactly then
// when tree.Selected says so of the real tree.
func TestAt(t *testing.T) {
	needRoot(t)
	ctx, l := context.Background(), lease(t)
	names := []string{"", "/", ".", "..", "a", "b", "/a/b", "a/..", "c.txt", "d/ab", "ab/../a", "nothing", "a/a/a"}
	for seed := range uint64(rounds(t, 60)) {
		r := rand.New(rand.NewPCG(seed, 4))
		seen := map[digest.Digest]digest.Digest{}
		for range 3 {
			dir := t.TempDir()
			randomTree(t, r, dir, 3)
			m := (&Dir{Path: dir}).must(t, nil)
			lowers, err := m.copied(l)
			must(t, err)
			for _, name := range names {
				got, ok := m.At(name)
				want, err := tree.Selected(ctx, lowers, name)
				if ok != (err == nil) {
					t.Fatalf("seed %d, %q: %v, but %v", seed, name, ok, err)
				}
				if !ok {
					continue
				}
				if was, ok := seen[got]; ok && was != want {
					t.Fatalf("seed %d, %q: two trees have one identity", seed, name)
				}
				seen[got] = want
			}
		}
	}
}

func TestRequired(t *testing.T) {
	m := small(t)
	c := &op.Copy{Source: "/", Contents: true, Include: []string{"a/1"}}
	for name, want := range map[string]bool{"a/1": true, "/a/1": true, "a/none": false} {
		c.Required = []string{name}
		if _, ok := m.must(t, nil).Select(c); ok != want {
			t.Errorf("%s: %v", name, ok)
		}
	}
}
