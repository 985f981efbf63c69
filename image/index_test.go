package image_test

import (
	"errors"
	"io/fs"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/testenv"
)

func TestIndex(t *testing.T) {
	r := testenv.NewRegistry(t, nil)
	s := openStore(t, nil)
	i := twoLayers("linux/amd64", "")
	i.Layers = append(i.Layers, []testenv.File{{Name: "of amd64 alone"}})
	amd, arm := r.Push(t, "team/app", "amd64", i), r.Push(t, "team/app", "arm64", twoLayers("linux/arm64", ""))
	pull(t, s, r.Host+"/team/app:arm64", &image.PullOptions{Platform: "linux/arm64", Packed: true})
	name := r.Host + "/team/app:all"
	// One from the registry, without its layers, and one from here.
	first, err := s.AddToIndex(t.Context(), name, r.Host+"/team/app:amd64", r.Host+"/team/app:arm64")
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.AddToIndex(t.Context(), name, r.Host+"/team/app:arm64") // replaces itself
	if err != nil || again != first {
		t.Errorf("added twice: %s, %v, was %s", again, err, first)
	}
	if d, err := s.Document(t.Context(), name); err != nil || d.Digest != first || d.MediaType != ocispec.MediaTypeImageIndex {
		t.Errorf("document %+v, %v", d, err)
	}
	done := push(t, s, name, &image.PushOptions{Whole: true})
	if done[0].Digest != first {
		t.Errorf("pushed %s, want %s", done[0].Digest, first)
	}
	for p, want := range map[string]string{"linux/amd64": string(amd.Manifest), "linux/arm64": string(arm.Manifest)} {
		if got := pull(t, openStore(t, nil), name, &image.PullOptions{Platform: p, Packed: true}); got.Manifest() != want {
			t.Errorf("%s is %s, want %s", p, got.Manifest(), want)
		}
	}
	// Elsewhere the layers are missing.
	other := testenv.NewRegistry(t, nil)
	tag(t, s, name, other.Host+"/x:1")
	if _, err := s.Push(t.Context(), other.Host+"/x:1", &image.PushOptions{Whole: true}); err == nil {
		t.Error("a part was pushed as the whole")
	}
	if _, err := s.EditIndex(t.Context(), name, func(i *ocispec.Index) error {
		i.Manifests[0].Platform.OSFeatures = []string{"x"}
		i.Manifests = i.Manifests[:1]
		return nil
	}); err != nil {
		t.Error(err)
	}
	if _, err := s.EditIndex(t.Context(), name, func(i *ocispec.Index) error { i.Manifests = nil; return nil }); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("emptied: %v", err)
	}
	if _, err := s.AddToIndex(t.Context(), r.Host+"/team/app:arm64", r.Host+"/team/app:amd64"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over an image: %v", err)
	}
	if _, err := s.AddToIndex(t.Context(), name, r.Host+"/team/app:nosuch"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such image: %v", err)
	}
}

func TestCopy(t *testing.T) {
	a, b := testenv.NewRegistry(t, nil), testenv.NewRegistry(t, nil)
	index := a.PushIndex(t, "team/app", "1", twoLayers("linux/amd64", ""), twoLayers("linux/arm64", "zstd"))
	s := openStore(t, nil)
	for _, to := range []string{b.Host + "/x/y:2", a.Host + "/team/copy:1"} {
		done, err := s.Copy(t.Context(), a.Host+"/team/app:1", to, nil)
		if err != nil {
			t.Fatal(err)
		}
		if done.Digest != string(index) {
			t.Errorf("%s: %s, want %s", to, done.Digest, index)
		}
		for _, p := range []string{"linux/amd64", "linux/arm64"} {
			pull(t, openStore(t, nil), to, &image.PullOptions{Platform: p, Packed: true})
		}
	}
	// Within a registry nothing but configs and manifests moves.
	if n := len(a.Requests("PATCH ")); n != 0 {
		t.Errorf("%d layers were sent within the registry", n)
	}
	if list, err := s.List(t.Context(), nil); err != nil || len(list) != 0 {
		t.Errorf("the store has %v, %v", list, err)
	}
	one, err := s.Copy(t.Context(), a.Host+"/team/app:1", b.Host+"/one:1", &image.CopyOptions{Platform: "linux/arm64"})
	if err != nil || one.Digest == string(index) {
		t.Errorf("one platform: %+v, %v", one, err)
	}
	if _, err := s.Copy(t.Context(), a.Host+"/nosuch:1", b.Host+"/one:1", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such image: %v", err)
	}
}
