package run

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/networks"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/testenv"
)

func TestMain(m *testing.M) {
	testenv.Child("run", runChild)
	testenv.Main(m)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// bench is a Runner with a root file system to run in.
type bench struct {
	*Runner
	t    testing.TB
	dir  string
	base string // the test image, exploded
}

func newBench(t testing.TB, more ...testenv.File) *bench {
	t.Helper()
	testenv.Root(t)
	dir := testenv.Dir(t)
	root, err := record.OpenRoot(t.Context(), filepath.Join(dir, "root"), filepath.Join(dir, "state"))
	must(t, err)
	use, err := networks.Open(root).Use(t.Context()) // as an engine does: the bridge stays
	must(t, err)
	b := &bench{Runner: New(root, nil), t: t, dir: dir, base: testenv.Rootfs(t, more...)}
	t.Cleanup(func() {
		must(t, b.Close())
		use.Release()
		b.clean()
	})
	return b
}

// clean fails if something was left in the store. Supervisors delete what is
// in the trash when they have told of the end.
func (b *bench) clean() {
	b.t.Helper()
	trash := filepath.Join(b.root.Dir, "trash")
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		entries, _ := os.ReadDir(trash)
		if len(entries) == 0 {
			break
		}
		if time.Now().After(end) {
			b.t.Errorf("left: %q", files(b.t, trash))
			break
		}
	}
	for _, dir := range []string{b.root.Containers(), filepath.Join(b.root.Dir, "names"),
		filepath.Join(b.root.State, "s"), b.root.RuntimeDir(), filepath.Join(b.root.State, "net", "attached", "bridge")} {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if e.Name() != ".lock" {
				b.t.Errorf("left: %s", filepath.Join(dir, e.Name()))
			}
		}
	}
}

// layer is one to be filled.
func (b *bench) layer() *Layer {
	dir, err := os.MkdirTemp(b.root.Dir, "layer")
	must(b.t, err)
	return &Layer{Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work")}
}

// step runs a script without a network.
func (b *bench) step(script string) *Step {
	return &Step{Exec: &op.Exec{Args: []string{"sh", "-c", script}, Network: "none", StubsRecursive: true},
		Root: Tree{Lower: []string{b.base}}, Layer: b.layer()}
}

// with adds a mount.
func (s *Step) with(m op.Mount, from Mount) *Step {
	s.Exec.Mounts = append(s.Exec.Mounts, m)
	s.Mounts = append(s.Mounts, from)
	return s
}

// collect keeps what a step writes.
func (s *Step) collect() (stdout, stderr *bytes.Buffer) {
	var mu sync.Mutex
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	s.Output = func(err bool, p []byte) {
		mu.Lock()
		defer mu.Unlock()
		if err {
			stderr.Write(p)
		} else {
			stdout.Write(p)
		}
	}
	return stdout, stderr
}

// output runs a step to its end, which must be clean.
func (b *bench) output(s *Step) string {
	b.t.Helper()
	out, errs := s.collect()
	if err := b.Run(context.Background(), s); err != nil {
		b.t.Fatalf("%v: %s%s", err, out, errs)
	}
	return strings.TrimSpace(out.String())
}

// fails runs a step that must fail, and say so.
func (b *bench) fails(s *Step, parts ...string) error {
	b.t.Helper()
	out, errs := s.collect()
	err := b.Run(context.Background(), s)
	if err == nil {
		b.t.Fatalf("no error: %s%s", out, errs)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error()+errs.String(), p) {
			b.t.Errorf("error %v (%s) does not say %q", err, errs, p)
		}
	}
	return err
}

// files lists what a layer has, directories with a slash at the end.
func files(t testing.TB, dir string) []string {
	t.Helper()
	list := []string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, dir+"/")
		if err != nil || path == dir {
			return err
		}
		switch {
		case d.IsDir():
			name += "/"
		case d.Type()&fs.ModeCharDevice != 0:
			name += " (gone)"
		}
		list = append(list, name)
		return nil
	})
	must(t, err)
	return list
}

func (b *bench) has(l *Layer, want ...string) {
	b.t.Helper()
	if got := files(b.t, l.Upper); !slices.Equal(got, want) {
		b.t.Errorf("layer has %q, want %q", got, want)
	}
}

func (b *bench) equal(got, want string) {
	b.t.Helper()
	if got != want {
		b.t.Errorf("got  %q\nwant %q", got, want)
	}
}

func (b *bench) write(path, text string) string {
	path = filepath.Join(b.dir, path)
	must(b.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(b.t, os.WriteFile(path, []byte(text), 0o644))
	return path
}

func exitOf(t testing.TB, err error) *ExitError {
	t.Helper()
	var e *ExitError
	if !errors.As(err, &e) {
		t.Fatalf("%v is no *ExitError", err)
	}
	return e
}
