package image_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/testenv"
)

func save(t testing.TB, s *image.Store, opts *image.SaveOptions, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.Save(t.Context(), &b, names, opts); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// registry -> store -> archive -> other store -> registry, with equal digests
// at both ends.
func TestSaveRoundTrip(t *testing.T) {
	for _, oci := range []bool{false, true} {
		a, b := testenv.NewRegistry(t, nil), testenv.NewRegistry(t, nil)
		one := a.Push(t, "team/one", "1", twoLayers("", "gzip"))
		two := a.Push(t, "team/two", "2", twoLayers("", "zstd"))
		s := openStore(t, nil)
		for name, to := range map[string]string{"one:1": "/x/one:1", "two:2": "/x/two:2"} {
			pull(t, s, a.Host+"/team/"+name, packed)
			tag(t, s, a.Host+"/team/"+name, b.Host+to)
		}
		names := []string{b.Host + "/x/one:1", b.Host + "/x/two:2", a.Host + "/team/one:1"}
		archive := save(t, s, &image.SaveOptions{OCI: oci}, names...)
		if !bytes.Equal(archive, save(t, s, &image.SaveOptions{OCI: oci}, names...)) {
			t.Error("the same images gave other bytes")
		}
		other := openStore(t, nil)
		loaded, err := other.Load(t.Context(), bytes.NewReader(archive), nil)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(loaded); n < 2 {
			t.Fatalf("loaded %d images", n)
		}
		for name, want := range map[string]string{"/x/one:1": string(one.Manifest), "/x/two:2": string(two.Manifest)} {
			if got := push(t, other, b.Host+name, nil)[0].Digest; got != want {
				t.Errorf("%s arrived as %s, want %s", name, got, want)
			}
		}
		// A second store that came by the same images saves the same bytes.
		if !bytes.Equal(archive, save(t, other, &image.SaveOptions{OCI: oci}, names...)) {
			t.Error("another store gave other bytes")
		}
	}
}

func TestSaveDir(t *testing.T) {
	r := testenv.NewRegistry(t, nil)
	built := r.Push(t, "team/app", "1", twoLayers("", ""))
	s := openStore(t, nil)
	pull(t, s, r.Host+"/team/app:1", packed)
	tag(t, s, r.Host+"/team/app:1", "local:1")
	dir := filepath.Join(t.TempDir(), "new", "layout")
	for _, name := range []string{"local:1", r.Host + "/team/app:1", "local:1"} { // into one layout
		if err := s.SaveDir(t.Context(), dir, []string{name}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if left, _ := filepath.Glob(dir + "/blobs/sha256/*.part"); left != nil {
		t.Errorf("left behind: %v", left)
	}
	other := openStore(t, nil)
	loaded, err := other.LoadDir(t.Context(), dir, nil)
	if err != nil || len(loaded) != 2 || loaded[0].Image.Manifest() != string(built.Manifest) {
		t.Fatalf("loaded %v, %v", loaded, err)
	}
	if err := s.SaveDir(t.Context(), t.TempDir()+"/..", []string{"local:1"}, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("into a directory of something else: %v", err)
	}
	// A link out of the directory is not followed.
	blob := filepath.Join(dir, "blobs/sha256", built.ID.Encoded())
	os.Rename(blob, dir+"-config")
	os.Symlink(dir+"-config", blob)
	if _, err := openStore(t, nil).LoadDir(t.Context(), dir, nil); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("through a link: %v", err)
	}
}

func TestSaveErrors(t *testing.T) {
	r := testenv.NewRegistry(t, nil)
	r.Push(t, "team/app", "1", twoLayers("", ""))
	s := openStore(t, nil)
	img := pull(t, s, r.Host+"/team/app:1", packed)
	if err := s.Save(t.Context(), io.Discard, []string{"nosuch"}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such image: %v", err)
	}
	if err := s.Save(t.Context(), io.Discard, nil, nil); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("no names: %v", err)
	}
	if err := s.Save(t.Context(), io.Discard, []string{r.Host + "/team/app:1"}, &image.SaveOptions{Platform: "linux/mips"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such platform: %v", err)
	}
	// By id, without a name.
	loaded, err := openStore(t, nil).Load(t.Context(), bytes.NewReader(save(t, s, nil, img.ID())), nil)
	if err != nil || len(loaded) != 1 || len(loaded[0].Refs) != 0 {
		t.Errorf("by id: %v, %v", loaded, err)
	}
	// Damage is not passed on.
	blob := filepath.Join(s.Root(), "blobs/sha256", img.Blobs()[0].Digest.Encoded())
	data, _ := os.ReadFile(blob)
	data[len(data)/2] ^= 1
	if err := os.WriteFile(blob, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(t.Context(), io.Discard, []string{img.ID()}, nil); err == nil {
		t.Error("a damaged layer was saved")
	}
}

// All platforms of an index travel in an archive and come out of it.
func TestSavePlatforms(t *testing.T) {
	a, b := testenv.NewRegistry(t, nil), testenv.NewRegistry(t, nil)
	arm := twoLayers("linux/arm64", "")
	arm.Layers = append(arm.Layers, []testenv.File{{Name: "arm"}})
	index := a.PushIndex(t, "team/app", "1", twoLayers("linux/amd64", ""), arm)
	s, other := openStore(t, nil), openStore(t, nil)
	for _, p := range []string{"linux/amd64", "linux/arm64"} {
		pull(t, s, a.Host+"/team/app:1", &image.PullOptions{Platform: p, Packed: true})
	}
	tag(t, s, a.Host+"/team/app:1", b.Host+"/app:1")
	if _, err := other.Load(t.Context(), bytes.NewReader(save(t, s, nil, b.Host+"/app:1")), nil); err != nil {
		t.Fatal(err)
	}
	if done := push(t, other, b.Host+"/app:1", &image.PushOptions{Whole: true}); done[0].Digest != string(index) {
		t.Errorf("arrived as %s, want %s", done[0].Digest, index)
	}
	one := openStore(t, nil)
	if _, err := one.Load(t.Context(), bytes.NewReader(save(t, s, nil, b.Host+"/app:1")), &image.LoadOptions{Platform: "linux/arm64"}); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Push(t.Context(), b.Host+"/app:1", &image.PushOptions{Platform: "linux/amd64"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a platform that was not wanted: %v", err)
	}
}
