package build

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/testenv"
)

// builder is one that can run commands of the test image "box".
func (y *yard) builder(t *testing.T) *Builder {
	t.Helper()
	box := testenv.Image{Ref: "box", Layers: [][]testenv.File{testenv.BaseFiles(t)}, Config: ocispec.ImageConfig{Env: []string{"PATH=/bin"}}}
	if _, err := y.images.Load(t.Context(), bytes.NewReader(testenv.OCILayout(t, box)), nil); err != nil {
		t.Fatal(err)
	}
	b, err := New(y.images, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// executed builds and returns which instructions were executed.
func executed(t *testing.T, b *Builder, r Request) (*Result, []string) {
	t.Helper()
	started := map[string]bool{}
	var order []string
	r.Progress = func(e Event) {
		if e.Kind == StepStarted && !started[e.Step.Name] && (strings.Contains(e.Step.Name, "RUN") || strings.Contains(e.Step.Name, "COPY")) {
			started[e.Step.Name] = true
			_, what, _ := strings.Cut(e.Step.Name, "] ")
			order = append(order, what)
		}
	}
	res, err := b.Build(t.Context(), &r)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(order)
	return res, order
}

const remoteDockerfile = `FROM box AS tools
RUN --network=none echo tool > /tool
FROM box
COPY a /srv/a
RUN --network=none echo made > /made && rm -f /etc/motd
COPY --from=tools /tool /usr/tool
`

func TestRemoteCache(t *testing.T) {
	context := t.TempDir()
	if err := os.WriteFile(filepath.Join(context, "a"), []byte("a\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	registry := testenv.NewRegistry(t, nil)
	dir := filepath.Join(t.TempDir(), "cache")
	all := []string{"COPY --from=tools /tool /usr/tool", "COPY a /srv/a", "RUN --network=none echo made > /made && rm -f /etc/motd", "RUN --network=none echo tool > /tool"}
	inline := registry.Host + "/inline:1"

	first := newYard(t)
	made, ran := executed(t, first.builder(t), Request{Inline: []byte(remoteDockerfile), Context: Context{Dir: context}, Tags: []string{inline},
		CacheTo: []Cache{{Dir: dir}, {Dir: dir + "max", Max: true}, {Ref: registry.Host + "/cache:1"}, {Inline: true}}})
	if !slices.Equal(ran, all) {
		t.Fatalf("first executed %q", ran)
	}
	if _, err := first.images.Push(t.Context(), inline, nil); err != nil {
		t.Fatal(err)
	}
	want := merged(t, first, made.Image)
	for name, from := range map[string]Cache{"directory": {Dir: dir}, "directory, max": {Dir: dir + "max"}, "registry": {Ref: registry.Host + "/cache:1"}, "inline": {Ref: inline}} {
		t.Run(name, func(t *testing.T) {
			y := newYard(t)
			b := y.builder(t)
			r, ran := executed(t, b, Request{Inline: []byte(remoteDockerfile), Context: Context{Dir: context}, CacheFrom: []Cache{from}})
			if len(ran) > 0 || len(r.Warnings) > 0 {
				t.Errorf("executed %q, warnings %+v", ran, r.Warnings)
			}
			if !slices.Equal(r.Image.Layers(), made.Image.Layers()) {
				t.Errorf("layers %v, want %v", r.Image.Layers(), made.Image.Layers())
			}
			if got := merged(t, y, r.Image); !sameFiles(got, want) {
				t.Errorf("files %v\nwant %v", got, want)
			}
			// What comes next needs no cache elsewhere.
			if _, ran := executed(t, b, Request{Inline: []byte(remoteDockerfile), Context: Context{Dir: context}}); len(ran) > 0 {
				t.Errorf("then executed %q", ran)
			}
			// A changed last step looks into the stage that it copies from: its
			// files are in the cache only with Max.
			changed := strings.Replace(remoteDockerfile, "/usr/tool", "/usr/other", 1)
			_, ran = executed(t, b, Request{Inline: []byte(changed), Context: Context{Dir: context}, CacheFrom: []Cache{from}})
			expected := []string{"COPY --from=tools /tool /usr/other", all[3]}
			if from.Dir == dir+"max" {
				expected = expected[:1]
			}
			if !slices.Equal(ran, expected) {
				t.Errorf("after a change executed %q, want %q", ran, expected)
			}
		})
	}
}

func sameFiles(a, b map[string]string) bool {
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return len(a) == len(b)
}

// TestBadRemoteCaches: a cache that is not there, or is nonsense, is a warning;
// one that is forged is an error, and nothing of it is used.
func TestBadRemoteCaches(t *testing.T) {
	y := newYard(t)
	b := y.builder(t)
	dir := filepath.Join(t.TempDir(), "cache")
	dockerfile := []byte("FROM box\nRUN --network=none echo x > /x\n")
	if _, ran := executed(t, b, Request{Inline: dockerfile, CacheTo: []Cache{{Dir: dir}}}); len(ran) != 1 {
		t.Fatalf("executed %q", ran)
	}
	empty := t.TempDir()
	y = newYard(t)
	b = y.builder(t)
	r, ran := executed(t, b, Request{Inline: dockerfile, CacheFrom: []Cache{{Dir: empty}, {Dir: "/nonexistent"}, {Ref: "127.0.0.1:1/none"}, {Ref: "box"}}})
	if len(ran) != 1 || len(r.Warnings) != 4 {
		t.Errorf("executed %q, warnings %+v", ran, r.Warnings)
	}
	// Another layer in place of the one that the cache promises.
	blobs, _ := filepath.Glob(filepath.Join(dir, "blobs/sha256/*"))
	for _, path := range blobs {
		if data, err := os.ReadFile(path); err != nil || data[0] == '{' {
			continue
		}
		if err := os.WriteFile(path, testenv.Tar(t, []testenv.File{{Name: "evil", Data: []byte("evil")}}), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	y = newYard(t)
	b = y.builder(t)
	if _, err := b.Build(t.Context(), &Request{Inline: dockerfile, CacheFrom: []Cache{{Dir: dir}}}); err == nil || !strings.Contains(err.Error(), "forged") {
		t.Errorf("a forged layer was taken: %v", err)
	}
}

func TestMalformedRemoteCaches(t *testing.T) {
	id := strings.Repeat("a", 64)
	for name, c := range map[string]remoteConfig{
		"version": {Version: 99},
		"id":      {Version: 1, Entries: []remoteEntry{{ID: "../../etc/passwd"}}},
		"parent":  {Version: 1, Entries: []remoteEntry{{ID: id, Parents: []string{"x"}}}},
		"layer":   {Version: 1, Entries: []remoteEntry{{ID: id, Layers: []int{1}}}},
		"minus":   {Version: 1, Entries: []remoteEntry{{ID: id, Layers: []int{-2}}}},
	} {
		config, err := withRemote([]byte(`{"rootfs":{"diff_ids":["sha256:`+id+`"]}}`), &c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newImported("x", config, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := newImported("x", []byte(`{}`), nil); err == nil {
		t.Error("an image without a cache was accepted")
	}
	if _, err := newImported("x", []byte(`{`), nil); err == nil {
		t.Error("no JSON was accepted")
	}
}

// TestSecretsAreInNoCache: neither the keys nor anything else that leaves the
// machine tells them.
func TestSecretsAreInNoCache(t *testing.T) {
	y := newYard(t)
	dir := filepath.Join(t.TempDir(), "cache")
	_, _ = executed(t, y.builder(t), Request{Inline: []byte("FROM box\nRUN --network=none --mount=type=secret,id=s cat /run/secrets/s > /dev/null; echo ok > /ok\n"),
		Secrets: map[string]Secret{"s": {Data: []byte("hunter2-very-secret")}}, CacheTo: []Cache{{Dir: dir, Max: true}}})
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte("hunter2")) {
			t.Errorf("%s has the secret", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
