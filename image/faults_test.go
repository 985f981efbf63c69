package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/store"
)

// serveBytes answers with a body and a length that may be a lie.
func serveBytes(w http.ResponseWriter, body []byte, length int) {
	w.Header().Set("Content-Length", fmt.Sprint(length))
	w.Write(body)
}

// What a hostile or broken registry does ends in an error that names it, not in
// a hang, with a sound store and no secret in any text.
func TestHostileRegistries(t *testing.T) {
	layer := gzipped(noise(t, "big", 200_000))
	type fault = func(w http.ResponseWriter, req *http.Request) (http.ResponseWriter, bool)
	on := func(part string, do func(w http.ResponseWriter, req *http.Request)) fault {
		return func(w http.ResponseWriter, req *http.Request) (http.ResponseWriter, bool) {
			if !strings.Contains(req.URL.Path, part) {
				return w, false
			}
			do(w, req)
			return w, true
		}
	}
	status := func(part string, code int) fault {
		return on(part, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
	}
	for name, c := range map[string]struct {
		fault fault
		kind  error // nil: any
		says  string
	}{
		"body longer than the descriptor says": {on("/blobs/", func(w http.ResponseWriter, _ *http.Request) {
			serveBytes(w, append(bytes.Clone(layer), make([]byte, 5000)...), len(layer)+5000)
		}), store.ErrDigest, "more than the expected"},
		"body shorter than the descriptor says": {on("/blobs/", func(w http.ResponseWriter, _ *http.Request) {
			serveBytes(w, layer[:1000], 1000)
		}), nil, "of "},
		"ranges that lie": {on("/blobs/", func(w http.ResponseWriter, req *http.Request) {
			if req.Header.Get("Range") == "" {
				serveBytes(w, layer[:1000], len(layer)) // cut off
				return
			}
			w.Header().Set("Content-Range", "bytes 500000-600000/700000")
			w.WriteHeader(http.StatusPartialContent)
			w.Write(layer)
		}), nil, "Content-Range"},
		"endless body": {on("/blobs/", func(w http.ResponseWriter, req *http.Request) {
			for req.Context().Err() == nil {
				if _, err := w.Write(layer); err != nil {
					return
				}
			}
		}), store.ErrDigest, ""},
		"500 for ever":            {status("/manifests/", 500), nil, "500"},
		"503 for ever, for blobs": {status("/blobs/", 503), nil, "503"},
		"401 whatever is sent":    {status("/v2/app/", 401), fs.ErrPermission, "log in"},
		"403":                     {status("/manifests/", 403), fs.ErrPermission, "log in"},
		"redirects in a circle": {on("/blobs/", func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, req.URL.Path, http.StatusTemporaryRedirect)
		}), nil, "redirects"},
		"redirect to nowhere": {on("/blobs/", func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, "http://127.0.0.1:1/x?sig=s3cr3t", http.StatusTemporaryRedirect)
		}), nil, "127.0.0.1:1"},
		"redirect to another kind": {on("/blobs/", func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, "file:///etc/passwd", http.StatusTemporaryRedirect)
		}), nil, "file"},
		"manifest of another digest": {on("/manifests/sha256:", func(w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte(`{"schemaVersion":2}`))
		}), store.ErrDigest, "got content"},
		"huge manifest": {on("/manifests/", func(w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodHead {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			chunk := bytes.Repeat([]byte(" "), 1<<20)
			for req.Context().Err() == nil {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}), fs.ErrInvalid, "larger than"},
		"manifest that is none": {on("/manifests/", func(w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodHead {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			fmt.Fprint(w, "<html>Welcome to the hotel's network")
		}), fs.ErrInvalid, "JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRegistry(t)
			d := r.push("app", "v1", "", noise(t, "big", 200_000)).layers[0]
			if d.Digest != digest.FromBytes(layer) {
				t.Fatal("another layer than was thought")
			}
			r.set(func(w http.ResponseWriter, req *http.Request) (http.ResponseWriter, bool) {
				if strings.Contains(req.URL.Path, "/blobs/") && !isBlob(req, d.Digest) {
					return w, false // the config is sound
				}
				return c.fault(w, req)
			})
			s := openTest(t, &Options{Keychain: someKeys{}})
			_, err := s.Pull(t.Context(), r.host()+"/app:v1", &PullOptions{StallTimeout: 5 * time.Second})
			if err == nil || c.kind != nil && !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), r.host()) {
				t.Errorf("%v", err)
			}
			for _, secret := range []string{"hunter2", "s3cr3t", "dXNlcjpodW50ZXIy"} {
				if err != nil && strings.Contains(err.Error(), secret) {
					t.Errorf("the error tells a secret: %v", err)
				}
			}
			if n := r.count(""); n > 40 {
				t.Errorf("%d requests", n)
			}
			if v, err := s.Verify(t.Context(), nil); err != nil || len(v.Problems) > 0 || v.Images != 0 {
				t.Errorf("the store afterwards: %+v, %v", v, err)
			}
			r.set(nil)
			pullOne(t, s, r.host()+"/app:v1", nil)
			if v, err := s.Verify(t.Context(), nil); err != nil || len(v.Problems) > 0 || v.Images != 1 {
				t.Errorf("after a good pull: %+v, %v", v, err)
			}
		})
	}
}

// An index cannot contain itself, but indexes can list one another so often
// that following every way would take for ever.
func TestIndexesUponIndexes(t *testing.T) {
	r := newRegistry(t)
	leaf := r.push("app", "", "", tarOf(t, file{name: "f", body: "x"})).manifest
	d := r.pushIndex("app", "", leaf)
	for level := range 2 {
		many := make([]ocispec.Descriptor, 3000)
		for i := range many {
			many[i] = d
		}
		d = r.pushIndex("app", fmt.Sprint("wide", level), many...)
	}
	s := openTest(t, nil)
	pullOne(t, s, r.host()+"/app:wide1", nil)
	if _, err := s.Push(t.Context(), r.host()+"/app:wide1", nil); err != nil {
		t.Error(err)
	}
	if _, err := s.Platforms(t.Context(), r.host()+"/app:wide1"); err != nil {
		t.Error(err)
	}
	for level := range 5 {
		d = r.pushIndex("app", fmt.Sprint("deep", level), d)
	}
	if _, err := s.Pull(t.Context(), r.host()+"/app:deep4", nil); !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), "nested") {
		t.Errorf("deep: %v", err)
	}
	var inner []ocispec.Descriptor
	for i := range 200 {
		inner = append(inner, r.pushManifest("app", "", ocispec.MediaTypeImageIndex, fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[],"annotations":{"n":"%d"}}`, i)))
	}
	r.pushIndex("app", "spread", inner...)
	before := r.count("GET manifests")
	if _, err := s.Pull(t.Context(), r.host()+"/app:spread", nil); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("spread: %v", err)
	}
	if n := r.count("GET manifests") - before; n > maxIndexes+1 {
		t.Errorf("%d manifests were fetched", n)
	}
}

// A layer of some kilobytes that unpacks to a gigabyte ends at the limit of the
// store, and leaves nothing.
func TestDecompressionBomb(t *testing.T) {
	needRoot(t)
	r := newRegistry(t)
	r.push("bomb", "v1", "", tarOf(t, file{name: "bomb", body: strings.Repeat("boom", 16<<20)}))
	r.push("app", "v1", "", tarOf(t, file{name: "f", body: "x"}))
	s := openTest(t, nil)
	configure(t, s, record.Images{MaxBytes: 8 << 20})
	pullOne(t, s, r.host()+"/app:v1", nil)
	_, err := s.Pull(t.Context(), r.host()+"/bomb:v1", nil)
	if err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Fatalf("%v", err)
	}
	if got := listed(t, s, nil); got != r.host()+"/app:v1" {
		t.Errorf("images %q", got)
	}
	if v, err := s.Verify(t.Context(), nil); err != nil || len(v.Problems) > 0 {
		t.Errorf("%+v, %v", v, err)
	}
	if n, err := treeBytes(s.Root()); err != nil || n > 1<<20 {
		t.Errorf("%d bytes are left, %v", n, err)
	}
}

func treeBytes(dir string) (n int64, err error) {
	err = fs.WalkDir(os.DirFS(dir), ".", func(_ string, d fs.DirEntry, err error) error {
		if info, ierr := d.Info(); err == nil && ierr == nil && d.Type().IsRegular() {
			n += info.Size()
		}
		return err
	})
	return n, err
}

// Processes that pull, remove and prune one image: whoever pulled has it whole.
func TestProcessesPullAndRemoveOneImage(t *testing.T) {
	needRoot(t)
	r := newRegistry(t)
	r.push("app", "v1", "", noise(t, "lower", 200_000), noise(t, "upper2", 100_000))
	root, state := t.TempDir(), t.TempDir()
	s := openTest(t, &Options{Root: root, State: state})
	var wg sync.WaitGroup
	for _, op := range []string{"pull-loop", "pull-loop", "remove-loop", "prune-loop"} {
		text, err := json.Marshal(crashPlan{Op: op, Root: root, State: state, Registry: r.host()})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), crashEnv+"="+string(text))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", op, err, out)
			}
		})
	}
	wg.Wait()
	checkStore(t, s)
	if v, err := s.Verify(t.Context(), nil); err != nil || len(v.Problems) > 0 {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := s.Prune(t.Context(), &PruneOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	if left := append(contents(t, root), leftovers(t, root)...); left != nil {
		t.Errorf("left behind: %v", left)
	}
}
