package image

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/amphora-go/amphora/internal/store"
)

type noKeys struct{}

func (noKeys) Credentials(context.Context, string) (Credentials, error) { return Credentials{}, nil }

func TestImportMakesAnImage(t *testing.T) {
	s := openTest(t, nil)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(tarOf(t, file{name: "bin/", typ: '5'}, file{name: "bin/hello", body: "#!"}, file{name: "big", body: strings.Repeat("x", 1000)}))
	z.Close()
	date := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	img, err := s.Import(t.Context(), &packed, &ImportOptions{
		Ref: "hello:v1", Created: date, Comment: "made here",
		Changes: []string{`CMD ["/bin/hello"]`, "ENV A=1 B='two words'", "USER 1000:1000", "WORKDIR /srv", "WORKDIR data", "EXPOSE 80 53/udp", "VOLUME /data", `LABEL a.b="c d"`, "STOPSIGNAL SIGINT",
			"ENTRYPOINT exec me", "HEALTHCHECK --interval=5s --retries=2 CMD true", "ONBUILD RUN make"},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := img.Config()
	got := fmt.Sprintln(c.Config.Cmd, c.Config.Entrypoint, c.Config.Env, c.Config.User, c.Config.WorkingDir, len(c.Config.ExposedPorts), c.Config.Volumes, c.Config.Labels, c.Config.StopSignal, c.Config.Healthcheck.Test, c.Config.OnBuild)
	got = strings.TrimSpace(got)
	want := `[/bin/hello] [/bin/sh -c exec me] [A=1 B=two words] 1000:1000 /srv/data 2 map[/data:{}] map[a.b:c d] SIGINT [CMD-SHELL true] [RUN make]`
	if got != want {
		t.Errorf("config\n%s, want\n%s", got, want)
	}
	if h := img.History(); len(h) != 1 || h[0].Comment != "made here" || !h[0].Created.Equal(date) {
		t.Errorf("history %+v", h)
	}
	for _, name := range []string{"hello:v1", img.ID(), img.ID()[7:], img.ID()[7:15], img.Manifest()} {
		again, err := s.Get(t.Context(), name)
		if err != nil || again.ID() != img.ID() {
			t.Errorf("Get(%s): %v", name, err)
		}
	}
	infos, err := s.List(t.Context(), nil)
	if err != nil || len(infos) != 1 || infos[0].Refs[0].Familiar() != "hello:v1" || infos[0].Problem != "" {
		t.Fatalf("List: %+v, %v", infos, err)
	}
	if os.Geteuid() == 0 {
		if infos[0].Size != 1002 || !infos[0].Unpacked {
			t.Errorf("size %d, unpacked %v", infos[0].Size, infos[0].Unpacked)
		}
		if b, err := os.ReadFile(filepath.Join(s.s.LayerDir(img.Layers()[0]), "bin/hello")); err != nil || string(b) != "#!" {
			t.Errorf("unpacked file: %q, %v", b, err)
		}
	}
	if left := leftovers(t, s.Root()); left != nil {
		t.Errorf("left behind: %v", left)
	}
	if got := actions(t, s); !slices.Equal(got, []string{"import hello:v1"}) {
		t.Errorf("events: %v", got)
	}
}

func TestImportRefuses(t *testing.T) {
	good := tarOf(t, file{name: "a", body: strings.Repeat("y", 5000)})
	for name, c := range map[string]struct {
		data []byte
		opts ImportOptions
		says string
	}{
		"no tar":        {[]byte("this is no archive at all, not even a little bit of one, however long it goes on"), ImportOptions{Ref: "x"}, ""},
		"empty":         {nil, ImportOptions{Ref: "x"}, "empty"},
		"truncated":     {good[:1000], ImportOptions{Ref: "x"}, "truncated"},
		"bad name":      {good, ImportOptions{Ref: "X"}, "lower case"},
		"digest name":   {good, ImportOptions{Ref: "x@" + someDigest}, "digest"},
		"bad change":    {good, ImportOptions{Ref: "x", Changes: []string{"RUN true"}}, "RUN"},
		"bad port":      {good, ImportOptions{Ref: "x", Changes: []string{"EXPOSE 99999"}}, "99999"},
		"bad platform":  {good, ImportOptions{Ref: "x", Platform: "a/b/c/d"}, "platform"},
		"parent names":  {tarOf(t, file{name: "../../outside", body: "x"}), ImportOptions{Ref: "x"}, ""},
		"xz compressed": {[]byte("\xfd7zXZ\x00aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), ImportOptions{Ref: "x"}, "xz"},
	} {
		t.Run(name, func(t *testing.T) {
			s := openTest(t, nil)
			img, err := s.Import(t.Context(), bytes.NewReader(c.data), &c.opts)
			if name == "parent names" { // clamped into the root, as Docker's containerd does, or refused
				if err == nil {
					return
				}
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v, %v; want an error that says %q", img, err, c.says)
			}
			if left := append(leftovers(t, s.Root()), contents(t, s.Root())...); left != nil {
				t.Errorf("left behind: %v (%v)", left, err)
			}
			if infos, _ := s.List(t.Context(), nil); len(infos) != 0 {
				t.Errorf("images: %v", infos)
			}
		})
	}
}

func TestGetSaysWhatIsWrong(t *testing.T) {
	s := openTest(t, nil)
	a := importTest(t, s, "app", "1")
	for name, kind := range map[string]error{"missing": fs.ErrNotExist, "Upper": fs.ErrInvalid, "": fs.ErrInvalid, strings.Repeat("0", 64): fs.ErrNotExist,
		"app@" + someDigest: fs.ErrNotExist} {
		if _, err := s.Get(t.Context(), name); !errors.Is(err, kind) {
			t.Errorf("Get(%q): %v, want %v", name, err, kind)
		}
	}
	if got, err := s.Get(t.Context(), "app@"+a.Manifest()); err != nil || got.ID() != a.ID() {
		t.Errorf("by repository and digest: %v", err)
	}
	// Two ids that begin alike.
	seen := map[string]bool{a.ID()[7:8]: true}
	for i := 0; ; i++ {
		img := importTest(t, s, "", fmt.Sprint(i))
		if d := img.ID()[7:8]; seen[d] {
			_, err := s.Get(t.Context(), d)
			if !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), shortID(img.ID())) {
				t.Errorf("ambiguous %q: %v", d, err)
			}
			return
		} else {
			seen[d] = true
		}
	}
}

func TestTagMovesANameAndKeepsTheOldImage(t *testing.T) {
	s := openTest(t, nil)
	one, two := importTest(t, s, "app:one", "1"), importTest(t, s, "app:two", "2")
	if err := s.Tag(t.Context(), "app:one", "app:two"); err != nil {
		t.Fatal(err)
	}
	got, err := s.Get(t.Context(), "app:two")
	if err != nil || got.ID() != one.ID() {
		t.Fatalf("app:two is %v, %v", got, err)
	}
	infos, _ := s.List(t.Context(), nil)
	for _, i := range infos {
		if i.ID == two.ID() && len(i.Refs) != 0 || i.ID == one.ID() && len(i.Refs) != 2 {
			t.Errorf("%s has names %v", i.ID, i.Refs)
		}
	}
	if len(infos) != 2 {
		t.Fatalf("%d images, want the nameless one too", len(infos))
	}
	if err := s.Tag(t.Context(), two.ID(), "back"); err != nil {
		t.Fatal(err)
	}
	if names, _ := s.s.Names(t.Context()); len(names) != 3 {
		t.Errorf("%d name files, want 3: the nameless one must go", len(names))
	}
	if err := s.Tag(t.Context(), "none", "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("tag of nothing: %v", err)
	}
	if err := s.Tag(t.Context(), "back", "x@"+someDigest); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("tag with a digest: %v", err)
	}
}

func TestRemove(t *testing.T) {
	s := openTest(t, nil)
	img := importTest(t, s, "app:one", "1")
	other := importTest(t, s, "other", "2")
	if err := s.Tag(t.Context(), "app:one", "app:two"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), img.ID(), nil); !errors.Is(err, ErrInUse) {
		t.Fatalf("by id with two names: %v", err)
	}
	r, err := s.Remove(t.Context(), "app:one", nil)
	if err != nil || r.Deleted || len(r.Untagged) != 1 {
		t.Fatalf("first name: %+v, %v", r, err)
	}
	use := fmt.Sprintf(`{"version":1,"imageID":%q,"manifest":%q,"layers":[%q]}`, img.ID(), img.Manifest(), img.Layers()[0])
	container := filepath.Join(s.Root(), "containers", strings.Repeat("c", 64))
	os.MkdirAll(container, 0o700)
	os.WriteFile(filepath.Join(container, "record.json"), []byte(use), 0o600)
	if _, err := s.Remove(t.Context(), "app:two", nil); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "cccccccccccc") {
		t.Fatalf("used by a container: %v", err)
	}
	before := contents(t, s.Root())
	if r, err = s.Remove(t.Context(), "app:two", &RemoveOptions{Force: true}); err != nil || !r.Deleted {
		t.Fatalf("forced: %+v, %v", r, err)
	}
	if after := contents(t, s.Root()); !slices.Equal(before, after) {
		t.Errorf("a container's image lost data: %v, had %v", after, before)
	}
	os.RemoveAll(container)
	if _, err := s.s.Collect(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), other.ID()[7:20], nil); err != nil {
		t.Fatal(err)
	}
	if left := append(contents(t, s.Root()), leftovers(t, s.Root())...); left != nil {
		t.Errorf("left behind: %v", left)
	}
	want := []string{"import app:one", "import other:latest", "tag app:two", "untag app:one", "untag app:two", "delete", "untag other:latest", "delete"}
	if got := actions(t, s); !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
	if _, err := s.Remove(t.Context(), "app:two", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed twice: %v", err)
	}
}

func TestDamagedImageIsListedWithItsProblem(t *testing.T) {
	s := openTest(t, nil)
	img := importTest(t, s, "app", "1")
	os.Remove(filepath.Join(s.Root(), "blobs/sha256", strings.TrimPrefix(img.Manifest(), "sha256:")))
	infos, err := s.List(t.Context(), nil)
	if err != nil || len(infos) != 1 || !strings.Contains(infos[0].Problem, "missing") {
		t.Errorf("List: %+v, %v", infos, err)
	}
	_, err = s.Get(t.Context(), "app")
	if err == nil || errors.Is(err, fs.ErrNotExist) || !errors.Is(err, store.ErrMissing) {
		t.Errorf("Get: %v, must not look like an image that does not exist", err)
	}
	if r, err := s.Remove(t.Context(), "app", nil); err != nil || !r.Deleted {
		t.Errorf("Remove: %v", err)
	}
}

func TestPrepareUnpacksAndLeases(t *testing.T) {
	needRoot(t)
	s := openTest(t, nil)
	img := importTest(t, s, "app", "1")
	os.RemoveAll(filepath.Join(s.Root(), "layers", img.Layers()[0]))
	l, err := img.Prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), "app", nil); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(s.s.LayerDir(img.Layers()[0]), "file")); err != nil || string(b) != "1" {
		t.Fatalf("leased layer: %q, %v", b, err)
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.s.Collect(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if left := contents(t, s.Root()); left != nil {
		t.Errorf("left behind: %v", left)
	}
	if _, err := img.Prepare(t.Context()); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Prepare of a removed image: %v", err)
	}
}

func TestCancelledImportLeavesNothing(t *testing.T) {
	s := openTest(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	data := tarOf(t, file{name: "a", body: strings.Repeat("z", 1<<20)})
	r := io.MultiReader(bytes.NewReader(data[:len(data)/2]), readerFunc(func(p []byte) (int, error) {
		cancel()
		return 0, nil
	}))
	if _, err := s.Import(ctx, r, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	if left := append(leftovers(t, s.Root()), contents(t, s.Root())...); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
