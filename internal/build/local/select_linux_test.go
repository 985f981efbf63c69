package local

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	fscopy "github.com/tonistiigi/fsutil/copy"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/build/tree"
)

func randomCopy(r *rand.Rand) *op.Copy {
	c := &op.Copy{Source: "/" + randomPath(r), Target: "/out"}
	switch r.IntN(6) {
	case 0:
		c.Source = "/"
	case 1:
		c.Source += "/"
	case 2:
		c.Source += "/."
	}
	c.FollowLinks, c.Contents, c.Wildcards = r.IntN(3) > 0, r.IntN(2) == 0, r.IntN(2) == 0
	if c.Wildcards {
		c.Source = []string{c.Source, "/*", "/a*", "/?/*", path.Join("/", randomPath(r), "*"), "/[a-c]*"}[r.IntN(6)]
	}
	c.AllowNoMatch = r.IntN(2) == 0
	for range r.IntN(6) / 3 {
		c.Include = append(c.Include, randomPattern(r))
	}
	for range r.IntN(6) / 3 {
		p := randomPattern(r)
		if r.IntN(4) == 0 {
			p = "!" + p
		}
		c.Exclude = append(c.Exclude, p)
	}
	return c
}

// execute does a copy as builders do, onto a tree in which the target exists
// or not.
func execute(from string, c *op.Copy, to string) error {
	ctx := context.Background()
	names := []string{withEnd(c.Source)}
	if c.Wildcards {
		var err error
		if names, err = fscopy.ResolveWildcards(from, withEnd(c.Source), c.FollowLinks); err != nil {
			return err
		}
		if len(names) == 0 && !c.AllowNoMatch {
			return fmt.Errorf("nothing matches")
		}
	}
	for _, name := range names {
		err := fscopy.Copy(ctx, from, name, to, c.Target, fscopy.WithCopyInfo(fscopy.CopyInfo{
			Chown:           func(*fscopy.User) (*fscopy.User, error) { return &fscopy.User{}, nil },
			CopyDirContents: c.Contents, FollowLinks: c.FollowLinks, IncludePatterns: c.Include, ExcludePatterns: c.Exclude,
		}))
		if err != nil {
			return err
		}
	}
	return nil
}

// result is the digest of what a copy makes, "" if it fails.
func result(t *testing.T, from string, c *op.Copy, exists bool) digest.Digest {
	to := t.TempDir()
	if exists {
		must(t, os.Mkdir(filepath.Join(to, "out"), 0o755))
	}
	if execute(from, c, to) != nil {
		return ""
	}
	d, err := tree.Digest(context.Background(), to)
	must(t, err)
	must(t, os.RemoveAll(to))
	return d
}

// mutate changes something in a tree, perhaps nothing that counts.
func mutate(t *testing.T, r *rand.Rand, dir string) {
	var all []string
	must(t, filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		if name != dir {
			all = append(all, name)
		}
		return err
	}))
	if len(all) == 0 {
		return
	}
	name := all[r.IntN(len(all))]
	fi, err := os.Lstat(name)
	must(t, err)
	switch r.IntN(6) {
	case 0:
		must(t, os.RemoveAll(name))
	case 1:
		os.Rename(name, filepath.Join(filepath.Dir(name), randomNames[r.IntN(len(randomNames))]))
	case 2:
		os.Link(name, filepath.Join(filepath.Dir(name), randomNames[r.IntN(len(randomNames))]))
	case 3:
		if fi.Mode().IsRegular() {
			must(t, os.WriteFile(name, []byte{byte('0' + r.IntN(3))}, 0o644))
		}
	case 4:
		if fi.Mode()&os.ModeSymlink != 0 {
			must(t, os.Remove(name))
			must(t, os.Symlink(links[r.IntN(len(links))], name))
		}
	default:
		if fi.Mode()&os.ModeSymlink == 0 {
			must(t, os.Chmod(name, 0o750))
		}
	}
}

func TestSelectIsWhatACopyTakes(t *testing.T) {
	needRoot(t)
	sure, unsure, vain := 0, 0, 0
	for seed := range uint64(rounds(t, 100)) {
		r := rand.New(rand.NewPCG(seed, 3))
		a, b := t.TempDir(), filepath.Join(t.TempDir(), "b")
		randomTree(t, r, a, 3)
		must(t, exec.Command("cp", "-a", a, b).Run())
		for range r.IntN(3) {
			mutate(t, r, b)
		}
		f := &Filter{}
		if r.IntN(2) == 0 {
			f = randomFilter(r)
		}
		// What the filter leaves, as the copy sees it, is the other test's.
		l := lease(t)
		var from [2]string
		var m [2]*Manifest
		for i, dir := range []string{a, b} {
			must(t, os.Chmod(dir, 0o755))
			var err error
			m[i], err = (&Dir{Path: dir}).Scan(context.Background(), f)
			must(t, err)
			lowers, err := m[i].View(l)
			must(t, err)
			from[i] = mounted(t, lowers)
		}
		for range 12 {
			c := randomCopy(r)
			exists := r.IntN(2) == 0
			was, now := result(t, from[0], c, exists), result(t, from[1], c, exists)
			sa, oka := m[0].Select(c)
			sb, okb := m[1].Select(c)
			if !oka || !okb {
				if was != "" && !oka || now != "" && !okb {
					unsure++
				}
				continue
			}
			sure++
			switch {
			case sa == sb && was != now:
				t.Fatalf("seed %d, %+v: one selection, but copies differ", seed, *c)
			case sa != sb && was == now && was != "":
				vain++
			}
		}
	}
	t.Logf("%d selections; %d times the copy had to tell; %d differ in vain", sure, unsure, vain)
}
