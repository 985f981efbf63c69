package source

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/step"
)

// Commit is what a reference of a repository stands for.
type Commit struct {
	ID       string // full, lower-case
	Ref      string // full name of the branch or tag, e.g. refs/heads/main; for a commit's id that id
	Identity string // stands for the tree that PutGit makes
}

// resolved is a commit with what leads to it.
type resolved struct {
	id, ref string
	tag     string // object of an annotated tag
}

// Git finds out which commit o means. Nobody is asked if o has its full id.
func (f *Fetcher) Git(ctx context.Context, o *op.Git) (*Commit, error) {
	r, err := f.remote(o)
	if err != nil {
		return nil, err
	}
	got, err := f.resolve(ctx, o, r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.shown, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refs == nil {
		f.refs = map[string]*resolved{}
	}
	f.refs[identify(o)] = got
	c := &Commit{ID: got.id, Ref: got.ref, Identity: got.id}
	if o.KeepGitDir {
		c.Identity += ".git#" + got.ref
	}
	c.Identity += ":" + subdirectory(o)
	if o.SkipSubmodules {
		c.Identity += ";skip-submodules"
	}
	if o.MTime != "" {
		c.Identity += ";mtime=" + o.MTime
	}
	return c, nil
}

// subdirectory is the clean form of o.Dir; "" is the whole repository.
func subdirectory(o *op.Git) string { return strings.TrimPrefix(path.Clean("/"+o.Dir), "/") }

func (f *Fetcher) resolve(ctx context.Context, o *op.Git, r *remote) (*resolved, error) {
	if err := checkRef(o.Ref); err != nil {
		return nil, err
	}
	if o.MTime != "" && o.MTime != "commit" && o.MTime != "checkout" {
		return nil, fault.Invalid("times %q of a git repository: want commit or checkout", o.MTime)
	}
	got := &resolved{id: o.Ref, ref: o.Ref}
	if !hexID.MatchString(o.Ref) {
		d, g, err := f.enter(ctx, o, r)
		if err != nil {
			return nil, err
		}
		defer d.Close()
		if got, err = g.lsRemote(ctx, r.url, o.Ref); err != nil {
			return nil, err
		}
	}
	sum := strings.ToLower(o.Checksum)
	if !strings.HasPrefix(got.id, sum) && (got.tag == "" || !strings.HasPrefix(got.tag, sum)) {
		return nil, fmt.Errorf("%q is the commit %s, but the build wants %s", o.Ref, got.id, o.Checksum)
	}
	return got, nil
}

// enter begins the use of the repository's directory.
func (f *Fetcher) enter(ctx context.Context, o *op.Git, r *remote) (Dir, *git, error) {
	d, err := f.use(ctx, "git", r.shown+" "+hashed(o.Remote))
	if err != nil {
		return nil, nil, err
	}
	g, err := f.command(ctx, o, r, d.Path())
	if err != nil {
		d.Close()
		return nil, nil, err
	}
	return d, g, nil
}

// lsRemote looks for a reference among those of the server. A branch comes
// before a tag of the same name, as for git checkout.
func (g *git) lsRemote(ctx context.Context, url, ref string) (*resolved, error) {
	full := "refs/" + strings.TrimPrefix(ref, "refs/")
	names := []string{"refs/heads/" + ref, "refs/tags/" + ref, full}
	if ref == "" || ref == "HEAD" {
		names = []string{"HEAD"}
	}
	args := []string{"ls-remote", "--symref", "--", url}
	for _, n := range names {
		args = append(args, n, n+"^{}")
	}
	out, err := g.run(ctx, g.dir, args...)
	if err != nil {
		return nil, err
	}
	have, head := map[string]string{}, ""
	for line := range strings.Lines(string(out)) {
		value, name, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if target, ok := strings.CutPrefix(value, "ref: "); ok && name == "HEAD" {
			head = target
		} else if hexID.MatchString(value) {
			have[name] = value
		}
	}
	for _, n := range names {
		id, ok := have[n]
		if !ok {
			continue
		}
		got := &resolved{id: id, ref: n}
		if n == "HEAD" && head != "" && checkRef(head) == nil {
			got.ref = head
		}
		if commit, ok := have[n+"^{}"]; ok {
			got.id, got.tag = commit, id
		}
		return got, nil
	}
	if ref == "" {
		return nil, fmt.Errorf("the repository has no default branch: name a branch, a tag or a commit's full id")
	}
	return nil, fmt.Errorf("no branch or tag %q: want the name of one, or a commit's full id", ref)
}

// GitObject returns the commit object, as git cat-file prints it.
func (f *Fetcher) GitObject(ctx context.Context, o *op.Git, commit string) ([]byte, error) {
	if !hexID.MatchString(commit) {
		return nil, fault.Invalid("commit %q: want a full id", commit)
	}
	r, err := f.remote(o)
	if err != nil {
		return nil, err
	}
	d, g, err := f.enter(ctx, o, r)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	got := &resolved{id: commit, ref: commit}
	f.mu.Lock()
	if known := f.refs[identify(o)]; known != nil && known.id == commit {
		got = known
	}
	f.mu.Unlock()
	repo, err := g.fetch(ctx, r.url, got)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.shown, err)
	}
	return g.run(ctx, repo, "cat-file", "commit", commit)
}

// fetch makes sure that the commit and its tree are in the bare repository,
// whose path it returns.
func (g *git) fetch(ctx context.Context, url string, c *resolved) (string, error) {
	repo, err := g.repository(ctx, len(c.id))
	if err != nil {
		return "", err
	}
	// The reference is written once all is there.
	keep := "refs/amphora/commits/" + c.id
	if _, err := g.run(ctx, repo, "rev-parse", "--verify", "--quiet", keep+"^{commit}"); err == nil || ctx.Err() != nil {
		return repo, ctx.Err()
	}
	fetch := func(args ...string) error {
		_, err := g.run(ctx, repo, append([]string{"fetch", "--no-tags", "--quiet", "--force"}, args...)...)
		return err
	}
	// Servers need not give a commit by its id, nor a part of the history.
	err = fetch("--depth=1", "--", url, c.id+":"+keep)
	if err != nil && ctx.Err() == nil && c.ref != c.id {
		if err = fetch("--depth=1", "--", url, c.ref+":refs/amphora/fetched"); err == nil {
			err = g.keep(ctx, repo, keep, c.id)
		}
	}
	if err != nil && ctx.Err() == nil {
		args := []string{"--", url, "refs/*:refs/amphora/all/*"}
		if _, shallow := os.Stat(filepath.Join(repo, "shallow")); shallow == nil {
			args = append([]string{"--unshallow"}, args...)
		}
		if err = fetch(args...); err == nil {
			err = g.keep(ctx, repo, keep, c.id)
		}
	}
	return repo, err
}

func (g *git) keep(ctx context.Context, repo, ref, id string) error {
	if _, err := g.run(ctx, repo, "cat-file", "-e", id+"^{commit}"); err != nil {
		return fmt.Errorf("the repository has no commit %s: %w", id, err)
	}
	step.At("git.fetched")
	_, err := g.run(ctx, repo, "update-ref", "--no-deref", ref, id)
	return err
}

// repository is the bare one for ids of a length. It is made under another
// name first: a torn one is not used.
func (g *git) repository(ctx context.Context, length int) (string, error) {
	format := map[int]string{40: "sha1", 64: "sha256"}[length]
	repo := filepath.Join(g.dir, format+".git")
	if _, err := os.Stat(repo); err == nil {
		return repo, unlock(repo)
	}
	tmp, err := os.MkdirTemp(g.dir, begun)
	if err != nil {
		return "", fault.Opaque(err)
	}
	defer os.RemoveAll(tmp)
	if _, err := g.run(ctx, tmp, "init", "--quiet", "--bare", "--template=", "--object-format="+format, "."); err != nil {
		return "", err
	}
	step.At("git.made")
	return repo, fault.Opaque(os.Rename(tmp, repo))
}

// unlock removes the locks of a git that was killed: the directory is ours
// alone.
func unlock(repo string) error {
	err := filepath.WalkDir(repo, func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && e.Name() == "objects":
			return filepath.SkipDir
		case strings.HasSuffix(name, ".lock"):
			return os.Remove(name)
		}
		return nil
	})
	return fault.Opaque(err)
}

// committed is the committer's time of a commit, in seconds since 1970.
func (g *git) committed(ctx context.Context, repo, id string) (int64, error) {
	out, err := g.run(ctx, repo, "log", "-1", "--format=%ct", id, "--")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
}
