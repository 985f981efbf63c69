package image

import (
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestMirrorsAreTriedFirst(t *testing.T) {
	origin, good, bad := newRegistry(t), newRegistry(t), newRegistry(t)
	layer := noise(t, "big", 1<<19)
	img := origin.push("library/app", "v1", "", layer)
	good.push("library/app", "v1", "", layer)
	bad.push("library/app", "v1", "", layer)
	bad.set(func(w http.ResponseWriter, req *http.Request) (http.ResponseWriter, bool) {
		if isBlob(req, img.layers[0].Digest) {
			return &corrupt{w, 100_000}, false
		}
		return w, false
	})
	gone := newRegistry(t)
	gone.Close()
	t.Run("used", func(t *testing.T) {
		s := openTest(t, &Options{Mirrors: map[string][]string{"docker.io": {gone.URL, good.URL + "/"}}})
		if got := pullOne(t, s, "app:v1", nil); got.Ref().String() != "docker.io/library/app:v1" {
			t.Errorf("name %s", got.Ref())
		}
	})
	t.Run("wrong content", func(t *testing.T) {
		s := openTest(t, &Options{Mirrors: map[string][]string{origin.host(): {bad.URL}}})
		pullOne(t, s, origin.host()+"/library/app:v1", nil)
		if n := origin.count("GET blobs " + string(img.layers[0].Digest)); n != 1 {
			t.Errorf("the registry was asked %d times for the layer", n)
		}
	})
	t.Run("lacks the image", func(t *testing.T) {
		empty := newRegistry(t)
		s := openTest(t, &Options{Mirrors: map[string][]string{origin.host(): {empty.URL}}})
		pullOne(t, s, origin.host()+"/library/app:v1", nil)
		_, err := s.Pull(t.Context(), origin.host()+"/library/none:v1", nil)
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), empty.host()) {
			t.Errorf("nowhere: %v", err)
		}
	})
	t.Run("malformed", func(t *testing.T) {
		s := openTest(t, &Options{Mirrors: map[string][]string{"docker.io": {"ftp://x"}}})
		if _, err := s.Pull(t.Context(), "app", nil); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%v", err)
		}
	})
}

func TestManyPullersFetchOnce(t *testing.T) {
	r := newRegistry(t)
	layers := [][]byte{noise(t, "one", 300_000), noise(t, "three", 400_000), noise(t, "fours", 500_000), noise(t, "sixsix", 100_000)}
	img := r.push("app", "v1", "", layers...)
	root, state := t.TempDir(), t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		// Each Store stands for a process: locks are held by descriptor.
		s := openTest(t, &Options{Root: root, State: state})
		wg.Go(func() {
			if _, err := s.Pull(t.Context(), r.host()+"/app:v1", nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, l := range img.layers {
		if n := r.count("GET blobs " + string(l.Digest)); n != 1 {
			t.Errorf("layer %s was fetched %d times", l.Digest, n)
		}
	}
	if left := leftovers(t, root); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

func TestSameBlobTwiceInAnImage(t *testing.T) {
	r := newRegistry(t)
	layer := tarOf(t, file{name: "a", body: "1"})
	img := r.push("app", "v1", "", layer, layer, layer)
	s := openTest(t, nil)
	got := pullOne(t, s, r.host()+"/app:v1", nil)
	if n := r.count("GET blobs " + string(img.layers[0].Digest)); n != 1 {
		t.Errorf("fetched %d times", n)
	}
	if l := got.Layers(); len(slices.Compact(slices.Sorted(slices.Values(l)))) != 3 {
		t.Errorf("layers %v", l)
	}
}
