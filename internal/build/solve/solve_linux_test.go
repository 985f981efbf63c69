package solve

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/build/cache"
	"github.com/amphora-go/amphora/internal/build/local"
	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/build/run"
	"github.com/amphora-go/amphora/internal/journal"
	"github.com/amphora-go/amphora/internal/store"
	"github.com/amphora-go/amphora/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// world is what builds of one test share.
type world struct {
	t       *testing.T
	store   *store.Store
	cache   *cache.Cache
	context string // directory of the build context

	mu     sync.Mutex
	ran    []string // arguments of commands
	events []Event
	hook   func(ctx context.Context, args []string) error // called by commands
}

func newWorld(t *testing.T) *world {
	testenv.Root(t)
	dir := testenv.Dir(t)
	w := &world{t: t, context: filepath.Join(dir, "context")}
	if err := os.Mkdir(w.context, 0o755); err != nil {
		t.Fatal(err)
	}
	w.store = store.Open(filepath.Join(dir, "root"), filepath.Join(dir, "state"), journal.Open(filepath.Join(dir, "root/journal")))
	w.cache = cache.Open(w.store)
	t.Cleanup(w.store.Wait)
	return w
}

// Run is a command that writes the file its second argument names, with its
// third as content.
func (w *world) Run(ctx context.Context, s *run.Step) error {
	args := s.Exec.Args
	w.mu.Lock()
	w.ran = append(w.ran, strings.Join(args, " "))
	hook := w.hook
	w.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, args); err != nil {
			return err
		}
	}
	s.Output(false, []byte("running\n"))
	if err := os.MkdirAll(s.Layer.Upper, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.Layer.Upper, args[1]), []byte(args[2]), 0o644)
}

func (w *world) Image(context.Context, *store.Lease, *op.Vertex) (digest.Digest, []string, error) {
	return "", nil, errors.New("there are no images here")
}

func (w *world) Local(context.Context, string) (*local.Dir, error) {
	return &local.Dir{Path: w.context}, nil
}

func (w *world) Identify(context.Context, *op.Vertex) (string, error) { return "fetched", nil }

func (w *world) Fetch(_ context.Context, _ *op.Vertex, into string) error {
	if err := os.MkdirAll(into, 0o755); err != nil {
		return err
	}
	return os.WriteFile(into+"/fetched", []byte("from afar"), 0o644)
}

func (w *world) build() *Build {
	w.t.Helper()
	b, err := New(w.t.Context(), &Options{Store: w.store, Cache: w.cache, Runner: w, Sources: w, Events: func(e Event) { w.events = append(w.events, e) }})
	if err != nil {
		w.t.Fatal(err)
	}
	w.ran, w.events = nil, nil
	w.t.Cleanup(func() { b.Close() })
	return b
}

// solve builds and returns the content of a file of the result.
func (w *world) solve(v *op.Vertex, file string) string {
	w.t.Helper()
	b := w.build()
	defer b.Close()
	r, err := b.Solve(w.t.Context(), op.Input{Vertex: v})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.read(r, file)
}

func (w *world) read(r *Result, file string) string {
	w.t.Helper()
	d, err := r.Open(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	defer d.Close()
	f, err := d.Open(file)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, 100)
	n, _ := f.Read(data)
	return string(data[:n])
}

// wantRan checks which commands the last build executed, in any order.
func (w *world) wantRan(want ...string) {
	w.t.Helper()
	got := map[string]bool{}
	for _, r := range w.ran {
		got[r] = true
	}
	for _, c := range want {
		if !got[c] {
			w.t.Errorf("%q was not executed", c)
		}
	}
	if len(w.ran) != len(want) {
		w.t.Errorf("executed %q, want %q", w.ran, want)
	}
}

func (w *world) write(name, content string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.context, name), []byte(content), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

var ids int

func vertex(o op.Op, inputs ...*op.Vertex) *op.Vertex {
	ids++
	v := &op.Vertex{Digest: digest.FromString(string(rune(ids))), Name: o.Kind(), Op: o}
	for _, in := range inputs {
		v.Inputs = append(v.Inputs, op.Input{Vertex: in})
	}
	return v
}

func mkfile(base *op.Vertex, path, content string) *op.Vertex {
	f := &op.File{Base: op.Scratch, Actions: []op.Action{{Mkfile: &op.Mkfile{Path: path, Mode: 0o644, Data: []byte(content)}}}}
	if base == nil {
		return vertex(f)
	}
	f.Base = 0
	return vertex(f, base)
}

// command executes "write file content" in the tree of base.
func command(base *op.Vertex, file, content string, mounts ...op.Mount) *op.Vertex {
	e := &op.Exec{Args: []string{"write", file, content}, Mounts: append([]op.Mount{{Type: op.Bind, Target: "/", Input: 0}}, mounts...)}
	return vertex(e, base)
}

// copied copies a file of the context onto base.
func copied(base *op.Vertex, file string) *op.Vertex {
	f := &op.File{Base: 0, Actions: []op.Action{{Copy: &op.Copy{From: 1, Source: "/" + file, Target: "/" + file, MakeTarget: true}}}}
	return vertex(f, base, vertex(&op.Local{Name: "context"}))
}

// graph is: a file, a command on it, a copy of the context's file main, and a
// command on that.
func (w *world) graph() *op.Vertex {
	first := command(mkfile(nil, "/base", "base"), "first", "1")
	return command(copied(first, "main"), "second", "2")
}

func TestUnchangedExecutesNothing(t *testing.T) {
	w := newWorld(t)
	w.write("main", "package main")
	if got := w.solve(w.graph(), "second"); got != "2" {
		t.Fatalf("got %q", got)
	}
	w.wantRan("write first 1", "write second 2")
	if got := w.solve(w.graph(), "main"); got != "package main" {
		t.Fatalf("got %q", got)
	}
	w.wantRan()
	for _, e := range w.events {
		if e.State == Started && e.Vertex.Op.Kind() != "local" {
			t.Errorf("%s was executed", e.Vertex.Name)
		}
	}
}

// What has nothing to do with a step leaves it alone, and an equal result is
// one result.
func TestContentDecides(t *testing.T) {
	w := newWorld(t)
	w.write("main", "one")
	w.solve(w.graph(), "second")
	w.write("other", "not copied")
	w.solve(w.graph(), "second")
	w.wantRan()
	w.write("main", "two")
	if got := w.solve(w.graph(), "main"); got != "two" {
		t.Fatalf("got %q", got)
	}
	w.wantRan("write second 2")
	w.write("main", "one")
	if got := w.solve(w.graph(), "main"); got != "one" {
		t.Fatalf("got %q", got)
	}
	w.wantRan()
	// Written by another operation, but the same.
	again := mkfile(nil, "/base", "base")
	again.Op.(*op.File).Actions = append([]op.Action{{Mkfile: &op.Mkfile{Path: "/base", Mode: 0o644, Data: []byte("gone")}}}, again.Op.(*op.File).Actions...)
	w.solve(command(again, "first", "1"), "first")
	w.wantRan()
}

// A result is remembered when its layers are not there any more: only what
// somebody looks into is made again.
func TestLayersAreMadeAgain(t *testing.T) {
	w := newWorld(t)
	w.write("main", "one")
	w.solve(w.graph(), "second")
	layers, err := filepath.Glob(filepath.Join(w.store.Root(), "layers/*"))
	if err != nil || len(layers) == 0 {
		t.Fatal(layers, err)
	}
	for _, l := range layers {
		if err := os.RemoveAll(l); err != nil {
			t.Fatal(err)
		}
	}
	b := w.build()
	r, err := b.Solve(t.Context(), op.Input{Vertex: w.graph()})
	if err != nil {
		t.Fatal(err)
	}
	w.wantRan()
	if got := w.read(r, "second"); got != "2" {
		t.Fatalf("got %q", got)
	}
	w.wantRan("write first 1", "write second 2")
	b.Close()
	w.solve(w.graph(), "first")
	w.wantRan()
}

func TestNoCache(t *testing.T) {
	w := newWorld(t)
	w.write("main", "one")
	w.solve(w.graph(), "second")
	g := w.graph()
	g.Inputs[0].Vertex.Inputs[0].Vertex.NoCache = true // the first command
	w.solve(g, "second")
	w.wantRan("write first 1", "write second 2") // the second runs on another result
	w.solve(w.graph(), "second")
	w.wantRan()
}

// Many builds of one graph at once execute each step once.
func TestOneExecution(t *testing.T) {
	w := newWorld(t)
	w.write("main", "one")
	w.build()
	var g sync.WaitGroup
	for range 8 {
		b, err := New(t.Context(), &Options{Store: w.store, Cache: cache.Open(w.store), Runner: w, Sources: w})
		if err != nil {
			t.Fatal(err)
		}
		v := w.graph()
		g.Go(func() {
			defer b.Close()
			if _, err := b.Solve(t.Context(), op.Input{Vertex: v}); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	w.wantRan("write first 1", "write second 2")
}

// Steps that do not need each other are executed at once.
func TestParallel(t *testing.T) {
	w := newWorld(t)
	base := mkfile(nil, "/base", "base")
	var both sync.WaitGroup
	both.Add(2)
	w.hook = func(ctx context.Context, _ []string) error {
		both.Done()
		both.Wait()
		return nil
	}
	v := vertex(&op.Merge{}, command(base, "a", "1"), command(base, "b", "2"))
	if got := w.solve(v, "a") + w.solve(v, "b"); got != "12" {
		t.Errorf("got %q", got)
	}
}

func TestFailure(t *testing.T) {
	w := newWorld(t)
	bad := errors.New("exit code 3")
	w.hook = func(_ context.Context, args []string) error {
		if args[1] == "bad" {
			return bad
		}
		return nil
	}
	base := mkfile(nil, "/base", "base")
	v := command(command(base, "bad", ""), "after", "")
	b := w.build()
	_, err := b.Solve(t.Context(), op.Input{Vertex: v})
	var failed *Error
	if !errors.As(err, &failed) || failed.Vertex != v.Inputs[0].Vertex || !errors.Is(err, bad) {
		t.Errorf("got %v", err)
	}
	b.Close()
	w.wantRan("write bad ")
	var states []string
	for _, e := range w.events {
		if e.Vertex.Op.Kind() == "exec" {
			states = append(states, e.State)
		}
	}
	if got := strings.Join(states, " "); got != "started failed" {
		t.Errorf("events: %s", got)
	}
	w.hook = nil
	w.solve(v, "after")
	w.wantRan("write bad ", "write after ")
}

// The end of the caller's context ends what runs, and leaves nothing.
func TestCancel(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.hook = func(ctx context.Context, _ []string) error {
		cancel()
		<-ctx.Done()
		return context.Cause(ctx)
	}
	b, err := New(ctx, &Options{Store: w.store, Cache: w.cache, Runner: w, Sources: w})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Solve(ctx, op.Input{Vertex: w.graph()}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	b.Close()
	left, err := os.ReadDir(filepath.Join(w.store.Root(), "tmp"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
