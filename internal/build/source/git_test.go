package source

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/internal/build/op"
)

// at runs git in a directory of the test and returns what it printed.
func at(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b", "GIT_AUTHOR_DATE=1000000000 +0000", "GIT_COMMITTER_DATE=1000000000 +0000", "GIT_ALLOW_PROTOCOL=file:http")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func write(t *testing.T, name, content string, mode fs.FileMode) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, []byte(content), mode))
}

// repositories serves those below a directory by HTTP, to those who say what
// auth is.
func repositories(t *testing.T, auth string) (root, url string) {
	t.Helper()
	where, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Skip("git is not installed")
	}
	backend := filepath.Join(strings.TrimSpace(string(where)), "git-http-backend")
	if _, err := os.Stat(backend); err != nil {
		t.Skip("git http-backend is not installed")
	}
	root = t.TempDir()
	h := &cgi.Handler{Path: backend, Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null"}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != auth {
			w.Header().Set("WWW-Authenticate", "Basic")
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return root, s.URL
}

// project makes a repository with two commits; the first has the tag v1.
func project(t *testing.T, root string) (dir, first, second string) {
	t.Helper()
	dir = filepath.Join(root, "project")
	at(t, root, "init", "-q", "-b", "main", "project")
	write(t, filepath.Join(dir, "a"), "one", 0o644)
	write(t, filepath.Join(dir, "sub/run"), "#!/bin/sh\n", 0o755)
	must(t, os.Symlink("/etc", filepath.Join(dir, "out")))
	must(t, os.Symlink("sub", filepath.Join(dir, "link")))
	at(t, dir, "add", ".")
	at(t, dir, "commit", "-q", "-m", "first")
	at(t, dir, "tag", "-a", "-m", "v1", "v1")
	first = at(t, dir, "rev-parse", "HEAD")
	write(t, filepath.Join(dir, "a"), "two", 0o644)
	at(t, dir, "commit", "-q", "-a", "-m", "second")
	return dir, first, at(t, dir, "rev-parse", "HEAD")
}

func content(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	must(t, err)
	return string(data)
}

func TestGitReferences(t *testing.T) {
	root, url := repositories(t, "")
	dir, first, second := project(t, root)
	at(t, dir, "branch", "side/x", "v1^{}")
	_, again := newFetcher(t)
	for _, c := range []struct{ ref, id, full, a string }{
		{"", second, "refs/heads/main", "two"}, {"main", second, "refs/heads/main", "two"}, {"refs/heads/main", second, "refs/heads/main", "two"},
		{"v1", first, "refs/tags/v1", "one"}, {"refs/tags/v1", first, "refs/tags/v1", "one"}, {"tags/v1", first, "refs/tags/v1", "one"},
		{"side/x", first, "refs/heads/side/x", "one"}, {first, first, first, "one"},
	} {
		f := again()
		o := &op.Git{Remote: url + "/project/.git", Ref: c.ref}
		got, err := f.Git(t.Context(), o)
		if err != nil {
			t.Errorf("%q: %v", c.ref, err)
			continue
		}
		if got.ID != c.id || got.Ref != c.full || got.Identity != c.id+":" {
			t.Errorf("%q: %+v, want %s of %s", c.ref, got, c.id, c.full)
		}
		upper := filepath.Join(t.TempDir(), "upper")
		must(t, f.PutGit(t.Context(), o, upper))
		if a := content(t, filepath.Join(upper, "a")); a != c.a {
			t.Errorf("%q: %q", c.ref, a)
		}
		entries, _ := os.ReadDir(upper)
		if len(entries) != 4 {
			t.Errorf("%q: %v", c.ref, entries)
		}
		beside, _ := os.ReadDir(filepath.Dir(upper))
		if len(beside) != 1 {
			t.Errorf("%q leaves %v", c.ref, beside)
		}
	}
	for _, ref := range []string{"x", "ain", "mai*", first[:10]} {
		if got, err := again().Git(t.Context(), &op.Git{Remote: url + "/project/.git", Ref: ref}); err == nil {
			t.Errorf("%q: %+v", ref, got)
		}
	}
	if raw, err := again().GitObject(t.Context(), &op.Git{Remote: url + "/project/.git"}, second); err != nil || !strings.Contains(string(raw), "\n\nsecond") {
		t.Errorf("object: %q, %v", raw, err)
	}
}

func TestGitTree(t *testing.T) {
	root, url := repositories(t, "")
	_, first, _ := project(t, root)
	f, _ := newFetcher(t)
	upper := filepath.Join(t.TempDir(), "upper")
	must(t, f.PutGit(t.Context(), &op.Git{Remote: url + "/project/.git", Ref: "v1", Checksum: first[:12], MTime: "commit"}, upper))
	for name, mode := range map[string]fs.FileMode{"": 0o755 | fs.ModeDir, "a": 0o644, "sub": 0o755 | fs.ModeDir, "sub/run": 0o755, "out": 0o777 | fs.ModeSymlink} {
		info, err := os.Lstat(filepath.Join(upper, name))
		must(t, err)
		if info.Mode() != mode || info.ModTime().Unix() != 1000000000 {
			t.Errorf("%q: %v, %v", name, info.Mode(), info.ModTime())
		}
	}
	upper += "2"
	o := &op.Git{Remote: url + "/project/.git", Dir: "/x/../sub/"}
	c, err := f.Git(t.Context(), o)
	must(t, err)
	if !strings.HasSuffix(c.Identity, ":sub") {
		t.Errorf("%+v", c)
	}
	must(t, f.PutGit(t.Context(), o, upper))
	if entries, _ := os.ReadDir(upper); len(entries) != 1 || entries[0].Name() != "run" {
		t.Errorf("%v", entries)
	}
	for _, dir := range []string{"out", "link", "a", "none", ".git", "link/x"} {
		if err := f.PutGit(t.Context(), &op.Git{Remote: url + "/project/.git", Dir: dir}, upper+"3"); err == nil {
			t.Errorf("%q has become the tree", dir)
		}
	}
	tag := at(t, filepath.Join(root, "project"), "rev-parse", "v1")
	if c, err := f.Git(t.Context(), &op.Git{Remote: url + "/project/.git", Ref: "v1", Checksum: tag}); err != nil || c.ID != first {
		t.Errorf("the checksum of the tag: %+v, %v", c, err)
	}
	_, err = f.Git(t.Context(), &op.Git{Remote: url + "/project/.git", Checksum: first})
	if err == nil || !strings.Contains(err.Error(), first) {
		t.Errorf("another commit: %v", err)
	}
}

// TestGitKeepsCommit has the server move on between a build's two calls, and
// vanish after that.
func TestGitKeepsCommit(t *testing.T) {
	root, url := repositories(t, "")
	dir, first, second := project(t, root)
	f, again := newFetcher(t)
	o := &op.Git{Remote: url + "/project/.git", Ref: "main"}
	_, err := f.Git(t.Context(), o)
	must(t, err)
	at(t, dir, "reset", "-q", "--hard", first)
	upper := filepath.Join(t.TempDir(), "upper")
	must(t, f.PutGit(t.Context(), o, upper))
	if a := content(t, filepath.Join(upper, "a")); a != "two" {
		t.Errorf("%q", a)
	}
	must(t, os.RemoveAll(dir))
	o = &op.Git{Remote: url + "/project/.git", Ref: second}
	must(t, again().PutGit(t.Context(), o, upper+"2"))
}

func TestGitDirectoryIsKept(t *testing.T) {
	root, url := repositories(t, "")
	_, _, second := project(t, root)
	f, _ := newFetcher(t)
	address := strings.Replace(url, "//", "//me:s3cret@", 1) + "/project/.git"
	if _, err := f.Git(t.Context(), &op.Git{Remote: address}); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the server wants no password: %v", err)
	}
	for _, ref := range []string{"main", "v1", second} {
		upper := filepath.Join(t.TempDir(), "upper")
		o := &op.Git{Remote: url + "/project/.git", Ref: ref, KeepGitDir: true}
		c, err := f.Git(t.Context(), o)
		must(t, err)
		if c.Identity != c.ID+".git#"+c.Ref+":" {
			t.Errorf("%+v", c)
		}
		must(t, f.PutGit(t.Context(), o, upper))
		if id := at(t, upper, "rev-parse", "HEAD"); id != c.ID {
			t.Errorf("HEAD is %s, want %s", id, c.ID)
		}
		if status := at(t, upper, "status", "--porcelain"); status != "" {
			t.Errorf("%q has changes: %s", ref, status)
		}
		if origin := at(t, upper, "remote", "get-url", "origin"); origin != url+"/project/.git" {
			t.Errorf("origin is %s", origin)
		}
		if ref == "main" {
			if b := at(t, upper, "symbolic-ref", "HEAD"); b != "refs/heads/main" {
				t.Errorf("on %s", b)
			}
		}
		if ref == "v1" {
			if d := at(t, upper, "describe"); d != "v1" {
				t.Errorf("described as %s", d)
			}
		}
	}
}

func TestGitSubmodules(t *testing.T) {
	root, url := repositories(t, "basic eC1hY2Nlc3MtdG9rZW46czNjcmV0")
	dir, _, _ := project(t, root)
	must(t, os.Mkdir(filepath.Join(root, "lib"), 0o755))
	at(t, filepath.Join(root, "lib"), "init", "-q", "-b", "main")
	write(t, filepath.Join(root, "lib/inner"), "x", 0o644)
	at(t, filepath.Join(root, "lib"), "add", ".")
	at(t, filepath.Join(root, "lib"), "commit", "-q", "-m", "lib")
	at(t, dir, "submodule", "--quiet", "add", "--name", "lib", root+"/lib", "vendor/lib")
	at(t, dir, "config", "-f", ".gitmodules", "submodule.lib.url", "../../lib/.git")
	at(t, dir, "commit", "-q", "-a", "-m", "with a submodule")
	f, _ := newFetcher(t)
	f.Secret = func(context.Context, string) ([]byte, bool, error) { return []byte("s3cret\n"), true, nil }
	upper := filepath.Join(t.TempDir(), "upper")
	must(t, f.PutGit(t.Context(), &op.Git{Remote: url + "/project/.git", TokenSecret: "t"}, upper))
	if got := content(t, filepath.Join(upper, "vendor/lib/inner")); got != "x" {
		t.Errorf("%q", got)
	}
	for _, name := range []string{".git", "vendor/lib/.git"} {
		if _, err := os.Lstat(filepath.Join(upper, name)); err == nil {
			t.Errorf("%s is there", name)
		}
	}
	must(t, f.PutGit(t.Context(), &op.Git{Remote: url + "/project/.git", TokenSecret: "t", KeepGitDir: true}, upper+"2"))
	if out, err := exec.Command("grep", "-rlE", "s3cret|eC1hY2Nlc3", upper+"2").CombinedOutput(); err == nil {
		t.Errorf("the secret is in %s", out)
	}
	if status := at(t, upper+"2/vendor/lib", "status", "--porcelain"); status != "" {
		t.Errorf("the submodule has changes: %s", status)
	}
	must(t, f.PutGit(t.Context(), &op.Git{Remote: url + "/project/.git", TokenSecret: "t", SkipSubmodules: true}, upper+"3"))
	if left, _ := os.ReadDir(upper + "3/vendor/lib"); len(left) != 0 {
		t.Errorf("%v", left)
	}
}

func TestGitHeader(t *testing.T) {
	root, url := repositories(t, "Bearer s3cret")
	project(t, root)
	f, again := newFetcher(t)
	f.Secret = func(context.Context, string) ([]byte, bool, error) { return []byte("Bearer s3cret"), true, nil }
	_, err := f.Git(t.Context(), &op.Git{Remote: url + "/project/.git", HeaderSecret: "h"})
	must(t, err)
	f = again()
	f.Secret = func(context.Context, string) ([]byte, bool, error) { return []byte("Bearer wr0ng"), true, nil }
	if _, err = f.Git(t.Context(), &op.Git{Remote: url + "/project/.git", HeaderSecret: "h"}); err == nil || strings.Contains(err.Error(), "wr0ng") {
		t.Errorf("a wrong header: %v", err)
	}
}

func TestGitRefusesWhatIsNoAddress(t *testing.T) {
	f, _ := newFetcher(t)
	for _, address := range []string{"--upload-pack=touch /tmp/x", "ext::sh -c id", "ext::x:y", "-x@h:p", "host:-p", "a\nb:c", "file:///etc", "/etc", "../x", "ssh://-oProxyCommand=id/x", "ssh://-x@h/p", "ftp://h/x", "https:///x", "fd::17/x"} {
		if got, err := f.Git(t.Context(), &op.Git{Remote: address}); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %+v, %v", address, got, err)
		}
	}
	for _, ref := range []string{"--output=x", "+a", "a:b", "a b", "a..b", "^a", "a\x00", "a@{1}", "a*"} {
		if got, err := f.Git(t.Context(), &op.Git{Remote: "https://127.0.0.1:1/x", Ref: ref}); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %+v, %v", ref, got, err)
		}
	}
}

func TestGitOfThisMachine(t *testing.T) {
	root, _ := repositories(t, "")
	dir, _, second := project(t, root)
	f, _ := newFetcher(t)
	f.AllowFile = true
	if c, err := f.Git(t.Context(), &op.Git{Remote: "file://" + dir}); err != nil || c.ID != second {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestGitCancel(t *testing.T) {
	asked := make(chan struct{}, 10)
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done() // until whoever asked is gone
	})
	f, _ := newFetcher(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := f.Git(ctx, &op.Git{Remote: url + "/x.git"}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestGitAgent(t *testing.T) {
	f, _ := newFetcher(t)
	if _, err := f.Git(t.Context(), &op.Git{Remote: "git@127.0.0.1:x", SSH: "default"}); !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), "agent") {
		t.Errorf("%v", err)
	}
}

// TestGitAfterKill leaves what a killed git leaves.
func TestGitAfterKill(t *testing.T) {
	root, url := repositories(t, "")
	_, first, _ := project(t, root)
	f, _ := newFetcher(t)
	o := &op.Git{Remote: url + "/project/.git"}
	must(t, f.PutGit(t.Context(), o, filepath.Join(t.TempDir(), "upper")))
	r, err := f.remote(o)
	must(t, err)
	d, err := f.Dirs(t.Context(), "git", r.shown+" "+hashed(o.Remote))
	must(t, err)
	repo := filepath.Join(d.Path(), "sha1.git")
	write(t, filepath.Join(repo, "shallow.lock"), "", 0o644)
	write(t, filepath.Join(repo, "refs/amphora/commits", first+".lock"), "", 0o644)
	must(t, d.Close())
	must(t, f.PutGit(t.Context(), &op.Git{Remote: o.Remote, Ref: "v1"}, filepath.Join(t.TempDir(), "upper")))
}
