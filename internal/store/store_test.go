package store

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/journal"
)

func newStore(t *testing.T) *Store {
	t.Helper()
	root := t.TempDir()
	s := Open(root, t.TempDir(), journal.Open(filepath.Join(root, "journal")))
	t.Cleanup(s.Wait)
	return s
}

func lease(t *testing.T, s *Store) *Lease {
	t.Helper()
	l, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func putBlob(t *testing.T, s *Store, l *Lease, text string) digest.Digest {
	t.Helper()
	d, err := s.PutBlob(t.Context(), l, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func tarWith(t *testing.T, name, body string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, body)
	w.Close()
	return b.Bytes()
}

// makeImage stores an image of plain layers and names it.
func makeImage(t *testing.T, s *Store, name string, layers ...[]byte) *Image {
	t.Helper()
	l := lease(t, s)
	config := ocispec.Image{RootFS: ocispec.RootFS{Type: "layers"}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, data := range layers {
		d := putBlob(t, s, l, string(data))
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, d)
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: int64(len(data))})
	}
	c, _ := json.Marshal(config)
	m.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: putBlob(t, s, l, string(c)), Size: int64(len(c))}
	data, _ := json.Marshal(m)
	manifest := putBlob(t, s, l, string(data))
	img, err := s.Image(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if name != "" {
		err := s.UpdateNames(t.Context(), func(tx *NamesTx) error {
			return tx.Put(t.Context(), "tag", Name{Name: name, Target: manifest, Manifest: manifest, ImageID: img.ID})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	return img
}

func TestCollectorSparesWhatIsLeased(t *testing.T) {
	s := newStore(t)
	l := lease(t, s)
	kept, lost := putBlob(t, s, l, "kept"), digest.Digest("")
	other := lease(t, s)
	lost = putBlob(t, s, other, "lost")
	other.Close()
	got, err := s.Collect(t.Context(), nil)
	if err != nil || len(got.Blobs) != 1 || got.Blobs[0] != lost {
		t.Fatalf("collected %+v, %v", got, err)
	}
	if _, ok := s.HasBlob(kept); !ok {
		t.Error("a leased blob is gone")
	}
	l.Close()
	if got, err := s.Collect(t.Context(), nil); err != nil || len(got.Blobs) != 1 {
		t.Errorf("after the lease: %+v, %v", got, err)
	}
}

func TestWaitingForTheCollectorEndsWithTheContext(t *testing.T) {
	s := newStore(t)
	if err := s.Init(); err != nil {
		t.Fatal(err)
	}
	gc, err := flock.Try(s.path("gc.lock"), flock.Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer gc.Release()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Lease(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lease: %v", err)
	}
}

func TestConcurrentUseAndCollection(t *testing.T) {
	s := newStore(t)
	stop := make(chan struct{})
	var collectors, users sync.WaitGroup
	collectors.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := s.Collect(t.Context(), nil); err != nil {
				t.Error(err)
			}
		}
	})
	for u := range 4 {
		users.Go(func() {
			for i := range 15 {
				l, err := s.Lease(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				text := fmt.Sprint("shared ", (u+i)%3)
				d, err := s.PutBlob(t.Context(), l, []byte(text))
				if err != nil {
					t.Error(err)
				}
				if data, err := s.ReadBlob(d); err != nil || string(data) != text {
					t.Errorf("a leased blob reads %q, %v", data, err)
				}
				l.Close()
			}
		})
	}
	users.Wait()
	close(stop)
	collectors.Wait()
}

func TestNamesKeepUnknownFieldsAndRefuseNewerVersions(t *testing.T) {
	s := newStore(t)
	img := makeImage(t, s, "docker.io/library/app:latest")
	path := s.path("images", "docker.io%2Flibrary%2Fapp%3Alatest.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.Replace(data, []byte(`{`), []byte(`{"future":{"a":1},`), 1)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	err = s.UpdateNames(t.Context(), func(tx *NamesTx) error {
		return tx.Put(t.Context(), "tag", Name{Name: "docker.io/library/app:latest", Target: img.Manifest, Manifest: img.Manifest, ImageID: img.ID, Platform: "linux/x"})
	})
	if err != nil {
		t.Fatal(err)
	}
	data, _ = os.ReadFile(path)
	if !strings.Contains(string(data), `"future":{"a":1}`) || !strings.Contains(string(data), "linux/x") {
		t.Errorf("rewritten as %s", data)
	}
	os.WriteFile(path, bytes.Replace(data, []byte(`"version":1`), []byte(`"version":7`), 1), 0o600)
	_, err = s.Name(t.Context(), "docker.io/library/app:latest")
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "7") || !strings.Contains(err.Error(), "1") {
		t.Errorf("a newer version: %v", err)
	}
	if _, err := s.Collect(t.Context(), nil); err == nil {
		t.Error("garbage was collected without understanding a name")
	}
}

func TestEscapeName(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{"a/b:C", "a/b:c", "a%2Fb:c", "A", "a", "%41", strings.Repeat("x/", 120) + "y:1", strings.Repeat("x/", 120) + "y:2"} {
		e := escapeName(name)
		if len(e) > 240 || strings.ContainsAny(e, `/\:`) || strings.ToLower(name) != name && !strings.Contains(e, "%") {
			t.Errorf("%q gives %q", name, e)
		}
		if other, ok := seen[strings.ToLower(e)]; ok {
			t.Errorf("%q and %q share a file", name, other)
		}
		seen[strings.ToLower(e)] = name
	}
}

func TestContainersKeepTheirLayers(t *testing.T) {
	if CanUnpack() != nil {
		t.Skip("needs root")
	}
	s := newStore(t)
	img := makeImage(t, s, "", tarWith(t, "a", "1"))
	l := lease(t, s)
	if err := l.AddImage(t.Context(), img); err != nil {
		t.Fatal(err)
	}
	if err := s.Unpack(t.Context(), l, img, nil); err != nil {
		t.Fatal(err)
	}
	dir := s.path("containers", "c1")
	os.MkdirAll(dir, 0o700)
	record := fmt.Sprintf(`{"version":1,"layers":[%q]}`, img.Layers[0].Chain)
	// Also a record that is just being replaced.
	for _, file := range []string{"record.json", "record.json.next"} {
		os.WriteFile(filepath.Join(dir, file), []byte(record), 0o600)
		l.Close()
		if _, err := s.Collect(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := s.Layer(img.Layers[0].Chain); !ok || err != nil {
			t.Fatalf("%s: the layer is gone (%v)", file, err)
		}
		os.Remove(filepath.Join(dir, file))
	}
	os.WriteFile(filepath.Join(dir, "record.json"), []byte("{"), 0o600)
	if _, err := s.Collect(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "c1") || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a damaged record: %v, nothing may be collected", err)
	}
	if _, ok, _ := s.Layer(img.Layers[0].Chain); !ok {
		t.Error("a layer was collected although a record could not be read")
	}
}

func TestLayerOfAnotherBootIsUnpackedAgain(t *testing.T) {
	if CanUnpack() != nil {
		t.Skip("needs root")
	}
	s := newStore(t)
	img := makeImage(t, s, "x/app:1", tarWith(t, "a", "right"))
	chain := img.Layers[0].Chain
	unpack := func() {
		t.Helper()
		l := lease(t, s)
		if err := l.AddImage(t.Context(), img); err != nil {
			t.Fatal(err)
		}
		if err := s.Unpack(t.Context(), l, img, nil); err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	unpack()
	s.Wait()
	if _, err := os.Stat(s.path("layers", chain, "pending")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the mark stays after the sync: %v", err)
	}
	// Power was lost before the sync: the mark is there and the file is not right.
	os.WriteFile(s.path("layers", chain, "pending"), []byte("another boot\n"), 0o600)
	file := filepath.Join(s.LayerDir(chain), "a")
	os.WriteFile(file, nil, 0o600)
	if missing, err := s.MissingLayers(img.Chains()); err != nil || len(missing) != 1 {
		t.Fatalf("missing: %v, %v", missing, err)
	}
	unpack()
	if b, err := os.ReadFile(file); err != nil || string(b) != "right" {
		t.Errorf("after the reboot: %q, %v", b, err)
	}
}

func TestManyUnpackOnce(t *testing.T) {
	if CanUnpack() != nil {
		t.Skip("needs root")
	}
	s := newStore(t)
	layers := [][]byte{tarWith(t, "a", "1"), tarWith(t, "b", "2"), tarWith(t, "c", "3"), tarWith(t, "a", "4")}
	img := makeImage(t, s, "x/app:1", layers...)
	var mu sync.Mutex
	made := map[int]int{}
	var wg sync.WaitGroup
	for range 6 {
		other := Open(s.Root(), s.State(), journal.Open(filepath.Join(s.Root(), "journal")))
		wg.Go(func() {
			defer other.Wait()
			l, err := other.Lease(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer l.Close()
			if err := l.AddImage(t.Context(), img); err != nil {
				t.Error(err)
			}
			if err := other.Unpack(t.Context(), l, img, &UnpackOptions{Progress: func(i int, p UnpackProgress) {
				if p == Unpacked {
					mu.Lock()
					made[i]++
					mu.Unlock()
				}
			}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range layers {
		if made[i] != 1 {
			t.Errorf("layer %d was published %d times", i, made[i])
		}
	}
}
