package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/step"
)

// PutGit makes the directory upper, mode 0755, with the files of the commit.
func (f *Fetcher) PutGit(ctx context.Context, o *op.Git, upper string) (err error) {
	r, err := f.remote(o)
	if err != nil {
		return err
	}
	f.mu.Lock()
	c := f.refs[identify(o)]
	f.mu.Unlock()
	if c == nil {
		if c, err = f.resolve(ctx, o, r); err != nil {
			return fmt.Errorf("%s: %w", r.shown, err)
		}
	}
	d, g, err := f.enter(ctx, o, r)
	if err != nil {
		return err
	}
	defer d.Close()
	repo, err := g.fetch(ctx, r.url, c)
	if err != nil {
		return fmt.Errorf("%s: %w", r.shown, err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(upper), "checkout-")
	if err != nil {
		return fault.Opaque(err)
	}
	defer func() { err = errors.Join(err, fault.Opaque(os.RemoveAll(tmp))) }()
	if err := g.checkout(ctx, o, r, c, repo, filepath.Join(tmp, "tree")); err != nil {
		return fmt.Errorf("%s: %w", r.shown, err)
	}
	from, err := within(filepath.Join(tmp, "tree"), subdirectory(o))
	if err != nil {
		return fmt.Errorf("%s: %w", r.shown, err)
	}
	if err := normalize(from); err != nil {
		return fault.Opaque(err)
	}
	if o.MTime == "commit" {
		seconds, err := g.committed(ctx, repo, c.id)
		if err != nil {
			return fmt.Errorf("%s: %w", r.shown, err)
		}
		if err := setTimes(from, time.Unix(seconds, 0)); err != nil {
			return fault.Opaque(err)
		}
	}
	step.At("git.written")
	return fault.Opaque(os.Rename(from, upper))
}

// checkout writes the commit's files to tree, which it makes.
func (g *git) checkout(ctx context.Context, o *op.Git, r *remote, c *resolved, repo, tree string) error {
	if err := makeDir(tree); err != nil {
		return fault.Opaque(err)
	}
	keep := o.KeepGitDir && subdirectory(o) == ""
	submodules := false
	if !o.SkipSubmodules {
		_, err := g.run(ctx, repo, "cat-file", "-e", c.id+":.gitmodules")
		submodules = err == nil
	}
	if !keep && !submodules {
		index := g.with("GIT_DIR="+repo, "GIT_WORK_TREE="+tree, "GIT_INDEX_FILE="+tree+".index")
		_, err := index.run(ctx, tree, "read-tree", "--reset", "-u", c.id)
		return err
	}
	if err := g.clone(ctx, r, c, repo, tree); err != nil {
		return err
	}
	if submodules {
		update := []string{"submodule", "--quiet", "update", "--init", "--recursive", "--force"}
		if _, err := g.run(ctx, tree, append(update, "--depth=1")...); err != nil {
			if ctx.Err() != nil {
				return err
			}
			// Some servers give only what a branch has.
			if _, err := g.run(ctx, tree, update...); err != nil {
				return err
			}
		}
	}
	if keep {
		return nil
	}
	return dropGit(tree)
}

// clone makes a repository of its own in tree, with the one commit.
func (g *git) clone(ctx context.Context, r *remote, c *resolved, repo, tree string) error {
	format := "sha1"
	if len(c.id) == 64 {
		format = "sha256"
	}
	name := c.ref
	if name == c.id || !strings.HasPrefix(name, "refs/") {
		name = "refs/amphora"
	}
	from := "refs/amphora/commits/" + c.id
	if c.tag != "" {
		from = g.annotation(ctx, r, c, repo)
	}
	branch, onBranch := strings.CutPrefix(name, "refs/heads/")
	local := g.with("GIT_ALLOW_PROTOCOL=file")
	steps := [][]string{
		{"init", "--quiet", "--template=", "--object-format=" + format, "."},
		{"fetch", "--quiet", "--no-tags", "--depth=1", "--update-head-ok", "--", repo, from + ":" + name},
		{"remote", "add", "origin", r.url},
		{"checkout", "--quiet", "--detach", c.id},
	}
	if onBranch {
		steps = append(steps, []string{"symbolic-ref", "HEAD", name},
			[]string{"update-ref", "refs/remotes/origin/" + branch, c.id})
	}
	if name == "refs/amphora" {
		steps = append(steps, []string{"update-ref", "-d", name})
	}
	for _, args := range steps {
		if _, err := local.run(ctx, tree, args...); err != nil {
			return err
		}
	}
	// It names the directory of the cache.
	if err := os.Remove(filepath.Join(tree, ".git", "FETCH_HEAD")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Opaque(err)
	}
	return nil
}

// annotation is the reference in repo of the tag's object, or of its commit if
// the server does not give it any more.
func (g *git) annotation(ctx context.Context, r *remote, c *resolved, repo string) string {
	keep := "refs/amphora/tags/" + c.tag
	if _, err := g.run(ctx, repo, "rev-parse", "--verify", "--quiet", keep); err == nil {
		return keep
	}
	for _, from := range []string{c.tag, c.ref} {
		if _, err := g.run(ctx, repo, "fetch", "--quiet", "--no-tags", "--force", "--depth=1", "--", r.url, from+":refs/amphora/fetched"); err != nil {
			continue
		}
		// By name it can be another tag by now.
		if _, err := g.run(ctx, repo, "update-ref", "--no-deref", keep, c.tag); err == nil {
			return keep
		}
	}
	return "refs/amphora/commits/" + c.id
}

// dropGit removes the repositories of a tree and of its submodules. No file of
// a commit can be called so.
func dropGit(tree string) error {
	return fault.Opaque(filepath.WalkDir(tree, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.Name() != ".git" {
			return err
		}
		if err := os.RemoveAll(name); err != nil || !e.IsDir() {
			return err
		}
		return filepath.SkipDir
	}))
}

// within is a directory of the tree, reached without links.
func within(tree, dir string) (string, error) {
	at := tree
	if dir == "" {
		return at, nil
	}
	for part := range strings.SplitSeq(dir, "/") {
		at = filepath.Join(at, part)
		info, err := os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("the commit has no directory %q", dir)
		}
		if err != nil {
			return "", fault.Opaque(err)
		}
		if !info.IsDir() {
			return "", fmt.Errorf("%q of the commit is not a directory, or is reached by a link", dir)
		}
	}
	return at, nil
}

// normalize gives files the modes that git knows, whatever the umask was.
func normalize(dir string) error {
	return filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if e.IsDir() || info.Mode()&0o100 != 0 {
			mode = 0o755
		}
		return os.Chmod(name, mode)
	})
}
