package source

import (
	"context"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/internal/build/op"
)

// before is a server in front of another one, which changes requests.
func before(t *testing.T, server string, change func(*http.Request)) string {
	t.Helper()
	u, err := url.Parse(server)
	must(t, err)
	p := httputil.NewSingleHostReverseProxy(u)
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		change(r)
		p.ServeHTTP(w, r)
	})
}

// TestGitOldServer has a server that gives no commit by its id if no reference
// is there.
func TestGitOldServer(t *testing.T) {
	root, url := repositories(t, "")
	_, first, second := project(t, root)
	at(t, filepath.Join(root, "project"), "tag", "-d", "v1")
	url = before(t, url, func(r *http.Request) { r.Header.Del("Git-Protocol") })
	f, _ := newFetcher(t)
	for id, want := range map[string]string{first: "one", second: "two"} {
		upper := filepath.Join(t.TempDir(), "upper")
		must(t, f.PutGit(t.Context(), &op.Git{Remote: url + "/project/.git", Ref: id}, upper))
		if got := content(t, filepath.Join(upper, "a")); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	none := strings.Repeat("0", 39) + "1"
	err := f.PutGit(t.Context(), &op.Git{Remote: url + "/project/.git", Ref: none}, filepath.Join(t.TempDir(), "upper"))
	if err == nil || !strings.Contains(err.Error(), none) {
		t.Errorf("a commit that is not there: %v", err)
	}
}

func TestGitSHA256(t *testing.T) {
	root, url := repositories(t, "")
	dir := filepath.Join(root, "project")
	at(t, root, "init", "-q", "-b", "main", "--object-format=sha256", "project")
	write(t, filepath.Join(dir, "a"), "x", 0o644)
	at(t, dir, "add", ".")
	at(t, dir, "commit", "-q", "-m", "first")
	f, _ := newFetcher(t)
	for _, o := range []*op.Git{{Remote: url + "/project/.git"}, {Remote: url + "/project/.git", Ref: at(t, dir, "rev-parse", "HEAD"), KeepGitDir: true}} {
		upper := filepath.Join(t.TempDir(), "upper")
		must(t, f.PutGit(t.Context(), o, upper))
		if got := content(t, filepath.Join(upper, "a")); got != "x" {
			t.Errorf("%q", got)
		}
	}
}

// TestGitSecretStaysWithItsHost covers redirects and submodules elsewhere.
func TestGitSecretStaysWithItsHost(t *testing.T) {
	auth := basic("me", "s3cret")
	root, url := repositories(t, auth)
	dir, _, _ := project(t, root)
	leaked := ""
	other := serve(t, func(w http.ResponseWriter, r *http.Request) {
		leaked += r.Header.Get("Authorization")
		http.NotFound(w, r)
	})
	redirect := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other+r.URL.String(), http.StatusMovedPermanently)
	})
	f, _ := newFetcher(t)
	user := func(u string) string { return strings.Replace(u, "//", "//me:s3cret@", 1) + "/project/.git" }
	if _, err := f.Git(t.Context(), &op.Git{Remote: user(redirect)}); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("redirected: %v", err)
	}
	at(t, dir, "submodule", "--quiet", "add", "--name", "lib", root+"/project/.git", "lib")
	at(t, dir, "config", "-f", ".gitmodules", "submodule.lib.url", other+"/lib")
	at(t, dir, "commit", "-q", "-a", "-m", "with a submodule")
	upper := filepath.Join(t.TempDir(), "upper")
	if err := f.PutGit(t.Context(), &op.Git{Remote: user(url)}, upper); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a submodule that is not there: %v", err)
	}
	if leaked != "" {
		t.Errorf("the other server got %q", leaked)
	}
}

// TestGitSubmoduleOfThisMachine has a commit that wants a file of the machine
// and a command.
func TestGitSubmoduleOfThisMachine(t *testing.T) {
	root, url := repositories(t, "")
	dir, _, _ := project(t, root)
	mark := filepath.Join(t.TempDir(), "mark")
	at(t, dir, "submodule", "--quiet", "add", "--name", "lib", root+"/project/.git", "lib")
	at(t, dir, "commit", "-q", "-a", "-m", "with a submodule")
	for _, address := range []string{root + "/project/.git", "file://" + root + "/project/.git", "ext::touch " + mark} {
		at(t, dir, "config", "-f", ".gitmodules", "submodule.lib.url", address)
		at(t, dir, "commit", "-q", "-a", "--allow-empty", "-m", "x")
		f, _ := newFetcher(t)
		if err := f.PutGit(t.Context(), &op.Git{Remote: url + "/project/.git"}, filepath.Join(t.TempDir(), "upper")); err == nil {
			t.Errorf("%s is taken", address)
		}
	}
	if m, _ := filepath.Glob(mark); m != nil {
		t.Error("the command has run")
	}
}

func TestSecretWithLines(t *testing.T) {
	f, _ := newFetcher(t)
	f.Secret = func(context.Context, string) ([]byte, bool, error) { return []byte("a\nX-Other: b"), true, nil }
	if _, err := f.HTTP(t.Context(), &op.HTTP{URL: "http://127.0.0.1:1/", Secret: "s"}); err == nil || !strings.Contains(err.Error(), "several lines") {
		t.Errorf("%v", err)
	}
}
