package source

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/amphora-go/amphora/internal/build/cache"
	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/testenv"
)

var _ Dir = (*cache.Dir)(nil)

func TestMain(m *testing.M) {
	testenv.Child("http", func(a []string) int {
		return report(below(a[0]).PutHTTP(context.Background(), &op.HTTP{URL: a[1]}, a[2]))
	})
	testenv.Child("git", func(a []string) int {
		return report(below(a[0]).PutGit(context.Background(), &op.Git{Remote: a[1]}, a[2]))
	})
	testenv.Main(m)
}

func report(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// single is a Dir that needs no lock: one process uses it.
type single string

func (d single) Path() string { return string(d) }
func (d single) Close() error { return nil }

// below keeps in root.
func below(root string) *Fetcher {
	return &Fetcher{Dirs: func(_ context.Context, kind, key string) (Dir, error) {
		p := filepath.Join(root, kind, hashed(key))
		return single(p), os.MkdirAll(p, 0o755)
	}}
}

// killed puts a source after a process has been killed at each step of doing
// so, and checks what is there then.
func killed(t *testing.T, child, url string, prepare func(root string), put func(root, upper string) error, check func(t *testing.T, upper string)) {
	root := t.TempDir()
	prepare(root)
	points := testenv.Points(func() { must(t, put(root, filepath.Join(t.TempDir(), "upper"))) })
	if len(points) == 0 {
		t.Fatal("no steps")
	}
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			root := t.TempDir()
			prepare(root)
			if r := testenv.RunChild(t, child, step.Plan{Name: point}, root, url, filepath.Join(t.TempDir(), "upper")); !r.Killed {
				t.Fatalf("the child was not killed: %+v", r)
			}
			upper := filepath.Join(t.TempDir(), "upper")
			must(t, put(root, upper))
			check(t, upper)
			left, _ := filepath.Glob(filepath.Join(root, "*/*/"+begun+"*"))
			if len(left) != 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

func TestHTTPKilled(t *testing.T) {
	var old atomic.Bool
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		etag, body := `"2"`, "new"
		if old.Load() {
			etag, body = `"1"`, "old"
		}
		w.Header().Set("ETag", etag)
		if r.Header.Get("If-None-Match") == etag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(w, body)
	}) + "/f"
	killed(t, "http", url, func(root string) {
		old.Store(true)
		_, err := below(root).HTTP(t.Context(), &op.HTTP{URL: url})
		must(t, err)
		old.Store(false)
	}, func(root, upper string) error {
		return below(root).PutHTTP(t.Context(), &op.HTTP{URL: url}, upper)
	}, func(t *testing.T, upper string) {
		if got := content(t, filepath.Join(upper, "f")); got != "new" {
			t.Errorf("%q", got)
		}
	})
}

func TestGitKilled(t *testing.T) {
	root, url := repositories(t, "")
	project(t, root)
	url += "/project/.git"
	killed(t, "git", url, func(string) {}, func(root, upper string) error {
		return below(root).PutGit(t.Context(), &op.Git{Remote: url}, upper)
	}, func(t *testing.T, upper string) {
		if got := content(t, filepath.Join(upper, "a")); got != "two" {
			t.Errorf("%q", got)
		}
	})
}

// TestGitSecureShell has a program in place of ssh that says how it is called
// and is the server itself.
func TestGitSecureShell(t *testing.T) {
	root, _ := repositories(t, "")
	dir, _, second := project(t, root)
	bin := t.TempDir()
	write(t, filepath.Join(bin, "ssh"), "#!/bin/sh\nprintf '%s\\n' \"$SSH_AUTH_SOCK\" \"$@\" >'"+bin+"/said'\nwhile [ \"$1\" != git@example.com ]; do\n"+
		"  case $1 in *=*build*) eval \"cat ${1#*=}\" >'"+bin+"/known';; esac\n  shift\ndone\nshift\neval \"$*\"\n", 0o755)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	f, _ := newFetcher(t)
	f.Agent = func(_ context.Context, id string) (string, error) { return "/run/agent-" + id, nil }
	c, err := f.Git(t.Context(), &op.Git{Remote: "git@example.com:" + dir, SSH: "default", KnownHosts: "example.com ssh-ed25519 KEY"})
	must(t, err)
	said := content(t, filepath.Join(bin, "said"))
	if c.ID != second || !strings.HasPrefix(said, "/run/agent-default\n-F\nnone\n") || !strings.Contains(said, "StrictHostKeyChecking=yes") {
		t.Errorf("%+v: %s", c, said)
	}
	if known := content(t, filepath.Join(bin, "known")); !strings.Contains(known, "KEY") {
		t.Errorf("known hosts %q", known)
	}
}
