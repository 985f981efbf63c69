package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/build/op"
)

// folder is a Dir of the tests.
type folder struct {
	path string
	mu   *sync.Mutex
}

func (d folder) Path() string { return d.path }
func (d folder) Close() error { d.mu.Unlock(); return nil }

// newFetcher keeps in a directory of the test; again returns one of another
// build, with the same directory.
func newFetcher(t *testing.T) (f *Fetcher, again func() *Fetcher) {
	t.Helper()
	root := t.TempDir()
	var mu sync.Mutex
	again = func() *Fetcher {
		return &Fetcher{Dirs: func(_ context.Context, kind, key string) (Dir, error) {
			mu.Lock()
			p := filepath.Join(root, kind, hashed(key))
			return folder{p, &mu}, os.MkdirAll(p, 0o755)
		}}
	}
	return again(), again
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serve counts the bodies that it gives.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestHTTPPut(t *testing.T) {
	when := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/dir/dated" {
			w.Header().Set("Last-Modified", when.Format(http.TimeFormat))
		}
		fmt.Fprint(w, "hello")
	})
	f, _ := newFetcher(t)
	upper := filepath.Join(t.TempDir(), "upper")
	o := &op.HTTP{URL: url + "/dir/dated?token=x"}
	file, err := f.HTTP(t.Context(), o)
	must(t, err)
	if file.Digest != digest.FromString("hello") || file.Filename != "dated" || !file.Modified.Equal(when) {
		t.Errorf("%+v", file)
	}
	must(t, f.PutHTTP(t.Context(), o, upper))
	info, err := os.Stat(filepath.Join(upper, "dated"))
	must(t, err)
	if info.Mode() != 0o600 || !info.ModTime().Equal(when) {
		t.Errorf("%v %v", info.Mode(), info.ModTime())
	}
	if info, err := os.Stat(upper); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
	upper += "2"
	must(t, f.PutHTTP(t.Context(), &op.HTTP{URL: url, Mode: 0o4751, Filename: "x"}, upper))
	info, err = os.Stat(filepath.Join(upper, "x"))
	must(t, err)
	if info.Mode() != 0o751|fs.ModeSetuid || info.ModTime().Unix() != 0 {
		t.Errorf("%v %v", info.Mode(), info.ModTime())
	}
	if data, err := os.ReadFile(filepath.Join(upper, "x")); err != nil || string(data) != "hello" {
		t.Errorf("%q, %v", data, err)
	}
}

func TestHTTPAsksWhetherChanged(t *testing.T) {
	content, etag, conditional, bodies := "one", `"1"`, true, 0
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", etag)
		if conditional && r.Header.Get("If-None-Match") == etag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		bodies++
		fmt.Fprint(w, content)
	})
	f, again := newFetcher(t)
	o := &op.HTTP{URL: url + "/f"}
	get := func(want string, count int) {
		t.Helper()
		file, err := again().HTTP(t.Context(), o)
		must(t, err)
		if file.Digest != digest.FromString(want) || bodies != count {
			t.Errorf("%s after %d bodies, want %q after %d", file.Digest, bodies, want, count)
		}
	}
	get("one", 1)
	get("one", 1)
	conditional = false // it ignores If-None-Match; the same ETag is the same content
	get("one", 2)
	_, err := f.HTTP(t.Context(), o)
	must(t, err)
	content, etag = "two", `"2"`
	get("two", 4)
	if err := f.PutHTTP(t.Context(), o, filepath.Join(t.TempDir(), "u")); err == nil || !strings.Contains(err.Error(), "changed") {
		t.Errorf("put what has been replaced: %v", err)
	}
}

func TestHTTPChecksum(t *testing.T) {
	asked := 0
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		w.Header().Set("Content-Disposition", `attachment; filename="other"`)
		fmt.Fprint(w, "hello")
	})
	_, again := newFetcher(t)
	for _, sum := range []digest.Digest{digest.FromString("hello"), digest.SHA512.FromString("hello")} {
		file, err := again().HTTP(t.Context(), &op.HTTP{URL: url + "/f", Checksum: sum})
		must(t, err)
		if asked != 1 || file.Filename != "f" {
			t.Errorf("asked %d times for %s, named %q", asked, sum.Algorithm(), file.Filename)
		}
	}
	bad := digest.FromString("bad")
	_, err := again().HTTP(t.Context(), &op.HTTP{URL: url + "/f?secret", Checksum: bad})
	if err == nil || !strings.Contains(err.Error(), bad.String()) || !strings.Contains(err.Error(), digest.FromString("hello").String()) || strings.Contains(err.Error(), "secret") {
		t.Errorf("another content: %v", err)
	}
}

func TestHTTPNames(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Disposition", r.URL.Query().Get("d"))
	})
	for _, c := range []struct{ tail, want string }{
		{"", "download"}, {"/", "download"}, {"/a/b", "b"}, {"/a/..", "download"}, {"/a%2fb", "b"},
		{"/a?d=attachment;filename%3Dx", ""}, {"/a?d=attachment%3Bfilename%3Dx", "x"},
		{"/a?d=attachment%3Bfilename%3D%22../../etc/x%22", "x"}, {"/a?d=attachment%3Bfilename%3D%22..%22", "a"},
	} {
		if c.want == "" {
			c.want = "a"
		}
		f, _ := newFetcher(t)
		file, err := f.HTTP(t.Context(), &op.HTTP{URL: url + c.tail})
		must(t, err)
		if file.Filename != c.want {
			t.Errorf("%q: %q, want %q", c.tail, file.Filename, c.want)
		}
	}
	f, _ := newFetcher(t)
	for _, o := range []*op.HTTP{{URL: url, Filename: "../x"}, {URL: url, Filename: ".."}, {URL: "file:///etc/passwd"}, {URL: "http://"}, {URL: url, Checksum: "x"}} {
		if _, err := f.HTTP(t.Context(), o); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestHTTPSecretStaysWithItsHost(t *testing.T) {
	var first, second string
	other := serve(t, func(w http.ResponseWriter, r *http.Request) {
		second = r.Header.Get("Authorization") + r.Header.Get("Referer")
		fmt.Fprint(w, "x")
	})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		first = r.Header.Get("Authorization") + r.Header.Get("X-More")
		if r.URL.Path == "/missing" {
			http.NotFound(w, r)
			return
		}
		http.Redirect(w, r, other+"/y", http.StatusFound)
	})
	f, _ := newFetcher(t)
	f.Secret = func(context.Context, string) ([]byte, bool, error) { return []byte("Bearer s3cret\n"), true, nil }
	_, err := f.HTTP(t.Context(), &op.HTTP{URL: url + "/x?q=1", Secret: "id", Header: map[string]string{"X-More": "!"}})
	must(t, err)
	if first != "Bearer s3cret!" || second != "" {
		t.Errorf("the host got %q, the other %q", first, second)
	}
	_, err = f.HTTP(t.Context(), &op.HTTP{URL: strings.Replace(url, "//", "//me:pass@", 1) + "/missing?q=s3cret", Secret: "id"})
	if err == nil || !strings.Contains(err.Error(), "404") || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "pass") {
		t.Errorf("missing: %v", err)
	}
}

func TestHTTPTornDownload(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "short")
	})
	f, _ := newFetcher(t)
	for range 2 {
		if file, err := f.HTTP(t.Context(), &op.HTTP{URL: url}); err == nil {
			t.Errorf("%+v", file)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.HTTP(ctx, &op.HTTP{URL: url}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}
