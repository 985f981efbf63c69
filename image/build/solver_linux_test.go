package build

import (
	"archive/tar"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/testenv"
)

// boxed is a builder with the test image under the name box.
func boxed(t *testing.T) (*Builder, string) {
	t.Helper()
	testenv.Root(t)
	dir := testenv.Dir(t)
	s, err := image.Open(t.Context(), &image.Options{Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Import(t.Context(), strings.NewReader(string(testenv.RootfsTar(t))), &image.ImportOptions{Ref: "box", Changes: []string{"ENV PATH=/bin"}}); err != nil {
		t.Fatal(err)
	}
	b, err := New(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Underlying().Wait)
	return b, dir
}

// tree builds a Dockerfile and returns its files.
func tree(t *testing.T, b *Builder, r *Request) map[string]string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out.tar")
	r.Outputs = []Output{{Type: OutputTar, Path: path}}
	if _, err := b.Build(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files := map[string]string{}
	for in := tar.NewReader(f); ; {
		h, err := in.Next()
		if err != nil {
			return files
		}
		data := make([]byte, min(h.Size, 1000))
		in.Read(data)
		files[strings.TrimPrefix(h.Name, "./")] = string(data)
	}
}

func TestAddFromServer(t *testing.T) {
	b, _ := boxed(t)
	content := "one"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(content)) }))
	defer srv.Close()
	file := func() *Request {
		return &Request{Inline: []byte("FROM scratch\nADD " + srv.URL + "/file.txt /dir/\n")}
	}
	if got := tree(t, b, file())["dir/file.txt"]; got != "one" {
		t.Errorf("got %q", got)
	}
	content = "two"
	if got := tree(t, b, file())["dir/file.txt"]; got != "two" {
		t.Errorf("got %q", got)
	}
}

// What fails is shown with its lines, and what stands before it is not executed
// again.
func TestFailingCommand(t *testing.T) {
	b, _ := boxed(t)
	var ran int
	r := &Request{Inline: []byte("FROM box\nRUN [\"/bin/sh\", \"-c\", \"echo before\"]\nRUN [\"/bin/sh\", \"-c\", \"exit 7\"]\n"), Network: "none",
		Progress: func(e Event) {
			if e.Kind == StepStarted {
				ran++
			}
		}}
	for want := 2; want > 0; want-- {
		ran = 0
		_, err := b.Build(t.Context(), r)
		var failed *Error
		if !errors.As(err, &failed) || failed.First != 3 || !strings.Contains(failed.Excerpt, ">>> RUN") || !strings.Contains(err.Error(), "7") {
			t.Fatalf("got %v", err)
		}
		if ran != want {
			t.Errorf("%d steps were executed, want %d", ran, want)
		}
	}
}

// A change of one file executes what depends on it, and nothing else.
func TestChangedFile(t *testing.T) {
	b, dir := boxed(t)
	ctx := filepath.Join(dir, "context")
	for name, text := range map[string]string{"a/main": "one", "b/main": "one",
		"Dockerfile": "FROM box AS a\nCOPY a /a\nRUN [\"/bin/sh\", \"-c\", \"echo a >/ran-a\"]\n" +
			"FROM box\nCOPY b /b\nRUN [\"/bin/sh\", \"-c\", \"echo b >/ran-b\"]\nCOPY --from=a /ran-a /a /\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(ctx, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(ctx, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var ran []string
	r := func() *Request {
		ran = nil
		return &Request{Context: Context{Dir: ctx}, Network: "none", Progress: func(e Event) {
			if e.Kind == StepStarted && strings.Contains(e.Step.Name, "RUN") {
				ran = append(ran, e.Step.Name)
			}
		}}
	}
	files := tree(t, b, r())
	if len(ran) != 2 || files["main"] != "one" || files["ran-a"] != "a\n" || files["b/main"] != "one" {
		t.Fatalf("ran %q, files %q", ran, files)
	}
	if tree(t, b, r()); len(ran) != 0 {
		t.Errorf("unchanged: ran %q", ran)
	}
	if err := os.WriteFile(filepath.Join(ctx, "a/main"), []byte("two"), 0o644); err != nil {
		t.Fatal(err)
	}
	if files = tree(t, b, r()); len(ran) != 1 || !strings.Contains(ran[0], "echo a") || files["main"] != "two" {
		t.Errorf("changed: ran %q, main %q", ran, files["main"])
	}
}
