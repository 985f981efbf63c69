package build

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
)

// fakeEngine knows images and trees by name and executes nothing.
type fakeEngine struct {
	images map[string]string        // configuration by familiar reference
	trees  map[string]fstest.MapFS  // by URL or remote
	fail   func(v *op.Vertex) error // Evaluate of what is below
	heads  map[string]*gitHead      // by remote
	http   map[string]*httpHead     // by URL

	mu    sync.Mutex
	asked []string
}

const alpineConfig = `{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin","BASE=1"],"User":"nobody"},"rootfs":{"type":"layers","diff_ids":["sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]},"history":[{"created_by":"base"}]}`

func newFake() *fakeEngine {
	return &fakeEngine{images: map[string]string{"alpine:latest": alpineConfig}, trees: map[string]fstest.MapFS{}}
}

func (e *fakeEngine) Evaluate(ctx context.Context, tree op.Input) error {
	if e.fail == nil {
		return nil
	}
	for _, v := range vertices(tree) {
		if err := e.fail(v); err != nil {
			return &stepError{vertex: v, err: err}
		}
	}
	return nil
}

func (e *fakeEngine) fs(tree op.Input) (fs.FS, error) {
	switch o := tree.Vertex.Op.(type) {
	case *op.HTTP:
		return e.trees[o.URL], nil
	case *op.Git:
		return e.trees[o.Remote], nil
	}
	return nil, fault.NotExist("no tree %s", tree.Vertex.Name)
}

func (e *fakeEngine) ReadFile(_ context.Context, tree op.Input, path string, max int64) ([]byte, error) {
	f, err := e.fs(tree)
	if err != nil {
		return nil, err
	}
	data, err := fs.ReadFile(f, path)
	if max > 0 {
		data = data[:min(max, int64(len(data)))]
	}
	return data, err
}

func (e *fakeEngine) Stat(_ context.Context, tree op.Input, path string) (fs.FileInfo, error) {
	f, err := e.fs(tree)
	if err != nil {
		return nil, err
	}
	return fs.Stat(f, path)
}

func (e *fakeEngine) ReadDir(_ context.Context, tree op.Input, path string) ([]fs.DirEntry, error) {
	f, err := e.fs(tree)
	if err != nil {
		return nil, err
	}
	return fs.ReadDir(f, path)
}

func (e *fakeEngine) ImageConfig(_ context.Context, img *op.Image, p ocispec.Platform) (string, digest.Digest, []byte, error) {
	e.mu.Lock()
	e.asked = append(e.asked, img.Ref+" "+img.Mode+" "+platformText(p))
	e.mu.Unlock()
	config, ok := e.images[strings.TrimPrefix(img.Ref, "docker.io/library/")]
	if img.Ref == string(digest.FromString(alpineConfig)) {
		config, ok = alpineConfig, true
	}
	if !ok {
		return "", "", nil, fault.NotExist("no such image")
	}
	var c ocispec.Image
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return "", "", nil, err
	}
	return img.Ref, digest.FromString(config), []byte(config), nil
}

func (e *fakeEngine) LayoutConfig(_ context.Context, img *op.Layout, p ocispec.Platform) (string, digest.Digest, []byte, error) {
	return img.Ref, digest.FromString(alpineConfig), []byte(alpineConfig), nil
}

func (e *fakeEngine) GitHead(_ context.Context, g *op.Git, object bool) (*gitHead, error) {
	return e.heads[g.Remote], nil
}

func (e *fakeEngine) HTTPHead(_ context.Context, h *op.HTTP) (*httpHead, error) {
	return e.http[h.URL], nil
}

// vertices lists a graph, inputs first.
func vertices(root op.Input) []*op.Vertex {
	var all []*op.Vertex
	seen := map[*op.Vertex]bool{}
	var walk func(v *op.Vertex)
	walk = func(v *op.Vertex) {
		if v == nil || seen[v] {
			return
		}
		seen[v] = true
		for _, in := range v.Inputs {
			walk(in.Vertex)
		}
		all = append(all, v)
	}
	walk(root.Vertex)
	return all
}

// find returns the vertex whose name contains text.
func find(t testing.TB, root op.Input, text string) *op.Vertex {
	t.Helper()
	for _, v := range vertices(root) {
		if strings.Contains(v.Name, text) {
			return v
		}
	}
	var names []string
	for _, v := range vertices(root) {
		names = append(names, v.Name)
	}
	t.Fatalf("no vertex %q among %q", text, names)
	return nil
}

// builder is a Builder over a fake engine.
func builder(t testing.TB, e engine) *Builder {
	return &Builder{connect: func(_ context.Context, j *job) (func() error, error) {
		j.engine, j.session.work = e, func() (string, error) { return t.TempDir(), nil }
		return func() error { return nil }, nil
	}}
}

// convert is Build as far as the graph.
func convert(t testing.TB, e engine, r *Request) (c *conversion, err error) {
	t.Helper()
	err = builder(t, e).with(t.Context(), "build", r, func(_ *job, f *frontend) (err error) {
		c, err = f.convert(t.Context())
		return err
	})
	return c, err
}

func mustConvert(t testing.TB, e engine, r *Request) *conversion {
	t.Helper()
	c, err := convert(t, e, r)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// files makes a tree of names and contents.
func files(pairs ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for i := 0; i+1 < len(pairs); i += 2 {
		m[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1]), Mode: 0o644}
	}
	return m
}

func dockerfile(lines ...string) []byte { return []byte(strings.Join(lines, "\n") + "\n") }

func asJSON(t testing.TB, v any) string {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(b.String())
}

func write(t testing.TB, dir, name, text string) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
