package image

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/store"
)

func pullOne(t *testing.T, s *Store, name string, opts *PullOptions) *Image {
	t.Helper()
	img, err := s.Pull(t.Context(), name, opts)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestPull(t *testing.T) {
	r := newRegistry(t)
	pushed := r.push("team/app", "v1", "", tarOf(t, file{name: "a", body: "lower"}), tarOf(t, file{name: "b/", typ: '5'}, file{name: "b/c", body: "upper"}))
	s := openTest(t, nil)
	var mu sync.Mutex
	last := map[int]Progress{}
	name := r.host() + "/team/app:v1"
	img := pullOne(t, s, name, &PullOptions{Progress: func(p Progress) {
		mu.Lock()
		defer mu.Unlock()
		if p.Bytes > p.Total || p.Bytes < last[p.Index].Bytes {
			t.Errorf("progress goes from %+v to %+v", last[p.Index], p)
		}
		last[p.Index] = p
	}})
	if img.ID() != string(pushed.config) || img.Manifest() != string(pushed.manifest.Digest) || img.Ref().String() != name {
		t.Errorf("got %s %s %s", img.ID(), img.Manifest(), img.Ref())
	}
	for i := range 2 {
		if p := last[i]; p.Phase != Done || p.Layers != 2 || p.Bytes != p.Total {
			t.Errorf("last progress of layer %d: %+v", i, p)
		}
	}
	infos, _ := s.List(t.Context(), nil)
	if len(infos) != 1 || len(infos[0].Digests) != 1 || infos[0].Digests[0].Digest != img.Manifest() {
		t.Errorf("List: %+v", infos)
	}
	if os.Geteuid() == 0 {
		if b, err := os.ReadFile(filepath.Join(s.s.LayerDir(img.Layers()[1]), "b/c")); err != nil || string(b) != "upper" {
			t.Errorf("unpacked: %q, %v", b, err)
		}
	}
	if left := leftovers(t, s.Root()); left != nil {
		t.Errorf("left behind: %v", left)
	}
	// Nothing changed: a HEAD is all that is asked.
	before := r.count("GET")
	pullOne(t, s, name, &PullOptions{Progress: func(p Progress) {
		if p.Phase != Waiting && p.Phase != Extracting && p.Phase != Exists {
			t.Errorf("progress of a layer that is there: %+v", p)
		}
	}})
	if n := r.count("GET") - before; n != 0 {
		t.Errorf("%d GETs for an image that is there", n)
	}
	// By digest nothing is asked at all.
	r.Close()
	if again := pullOne(t, s, r.host()+"/team/app@"+img.Manifest(), nil); again.ID() != img.ID() {
		t.Errorf("by digest: %s", again.ID())
	}
	if got := actions(t, s); len(got) != 3 || !strings.HasPrefix(got[0], "pull "+name) {
		t.Errorf("events: %v", got)
	}
}

func TestPullChoosesThePlatform(t *testing.T) {
	r := newRegistry(t)
	host := r.push("app", "", "", tarOf(t, file{name: "a", body: "host"})).manifest
	arm := r.push("app", "", "linux/arm/v6", tarOf(t, file{name: "a", body: "arm"})).manifest
	arm.Platform.Variant = "v6"
	s390 := r.push("app", "s390", "linux/s390x", tarOf(t, file{name: "a", body: "s390"})).manifest
	attestation := r.push("app", "", "linux/mips", tarOf(t, file{name: "a", body: "provenance"})).manifest
	attestation.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	attestation.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	inner := r.pushIndex("app", "", s390)
	r.pushIndex("app", "multi", attestation, host, arm, s390)
	r.pushIndex("app", "nested", inner)
	s := openTest(t, nil)
	for platform, want := range map[string]string{"": string(host.Digest), "linux/arm/v7": string(arm.Digest), "linux/s390x": string(s390.Digest)} {
		if img := pullOne(t, s, r.host()+"/app:multi", &PullOptions{Platform: platform}); img.Manifest() != want {
			t.Errorf("%q: %s, want %s", platform, img.Manifest(), want)
		}
	}
	if img := pullOne(t, s, r.host()+"/app:nested", &PullOptions{Platform: "linux/s390x"}); img.Manifest() != string(s390.Digest) {
		t.Errorf("index in an index: %s", img.Manifest())
	}
	_, err := s.Pull(t.Context(), r.host()+"/app:multi", &PullOptions{Platform: "linux/riscv64"})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "linux/s390x") || strings.Contains(err.Error(), "unknown") {
		t.Errorf("a platform that is not there: %v", err)
	}
	_, err = s.Pull(t.Context(), r.host()+"/app:s390", &PullOptions{Platform: "linux/riscv64"})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "linux/s390x") {
		t.Errorf("a single image of another platform: %v", err)
	}
	if _, err := s.Pull(t.Context(), r.host()+"/app:multi", &PullOptions{Platform: "linux//"}); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("malformed platform: %v", err)
	}
}

func TestPullSaysWhatIsWrong(t *testing.T) {
	r := newRegistry(t)
	img := r.push("app", "v1", "", tarOf(t, file{name: "a", body: "1"}))
	r.pushManifest("app", "schema1", store.DockerSchema1Signed, []byte(`{"schemaVersion":1,"name":"app","tag":"schema1","fsLayers":[{"blobSum":"`+someDigest+`"}],"signatures":[]}`))
	artifact := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: ocispec.Descriptor{MediaType: "application/vnd.example.chart", Digest: img.config, Size: 2}}
	artifact.SchemaVersion = 2
	r.pushManifest("app", "artifact", artifact.MediaType, artifact)
	wrong := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: img.config, Size: 1 << 40}}
	wrong.SchemaVersion = 2
	r.pushManifest("app", "huge", wrong.MediaType, wrong)
	r.pushManifest("app", "both", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageManifest+`","config":{"digest":"`+someDigest+`"},"layers":[],"manifests":[]}`))
	r.pushManifest("app", "path", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"config":{"digest":"sha256:../../../../etc/passwd","size":5},"layers":[]}`))
	s := openTest(t, nil)
	for tag, c := range map[string]struct {
		kind error
		says string
	}{
		"none":     {fs.ErrNotExist, "no such image"},
		"schema1":  {errors.ErrUnsupported, "schema 1"},
		"artifact": {fs.ErrInvalid, "application/vnd.example.chart"},
		"huge":     {fs.ErrInvalid, "more than"},
		"both":     {fs.ErrInvalid, "ambiguous"},
		"path":     {fs.ErrInvalid, "malformed"},
	} {
		_, err := s.Pull(t.Context(), r.host()+"/app:"+tag, nil)
		if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "app:"+tag) {
			t.Errorf("%s: %v", tag, err)
		}
	}
	if _, err := s.Pull(t.Context(), "UPPER", nil); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("bad name: %v", err)
	}
	if _, err := s.Pull(t.Context(), "127.0.0.1:1/app", nil); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("nobody listens: %v", err)
	}
	if infos, _ := s.List(t.Context(), nil); len(infos) != 0 {
		t.Errorf("images: %+v", infos)
	}
}

func TestPullRefusesAForgedDiffID(t *testing.T) {
	needRoot(t)
	r := newRegistry(t)
	good := r.push("app", "good", "", tarOf(t, file{name: "a", body: "1"}))
	other := r.push("app", "other", "", tarOf(t, file{name: "a", body: "2"}))
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Layers: other.layers}
	m.SchemaVersion = 2
	m.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: good.config, Size: configSize(t, r, good)}
	r.pushManifest("app", "forged", m.MediaType, m)
	s := openTest(t, nil)
	_, err := s.Pull(t.Context(), r.host()+"/app:forged", nil)
	if !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), "layer 1 of 1") {
		t.Errorf("forged layer: %v", err)
	}
	if left := leftovers(t, s.Root()); left != nil {
		t.Errorf("left behind: %v", left)
	}
	for _, c := range contents(t, s.Root()) {
		if strings.HasPrefix(c, "layers/") {
			t.Errorf("a layer was made: %s", c)
		}
	}
}

func configSize(t *testing.T, r *testRegistry, img testImage) int64 {
	t.Helper()
	w := r.send(http.MethodGet, "/v2/app/blobs/"+string(img.config), "", nil)
	return int64(w.Body.Len())
}

func TestPullGoesOnWhereItWasCutOff(t *testing.T) {
	r := newRegistry(t)
	img := r.push("app", "v1", "", noise(t, "big", 1<<20))
	var mu sync.Mutex
	var ranges []string
	cuts := 3
	r.set(func(w http.ResponseWriter, req *http.Request) (http.ResponseWriter, bool) {
		if !isBlob(req, img.layers[0].Digest) {
			return w, false
		}
		mu.Lock()
		defer mu.Unlock()
		ranges = append(ranges, req.Header.Get("Range"))
		if cuts--; cuts >= 0 {
			return &cutAfter{w, 300_000}, false
		}
		return w, false
	})
	s := openTest(t, nil)
	pullOne(t, s, r.host()+"/app:v1", nil)
	if len(ranges) != 4 || ranges[0] != "" || !strings.HasPrefix(ranges[1], "bytes=300000-") || !strings.HasPrefix(ranges[3], "bytes=900000-") {
		t.Errorf("ranges asked for: %q", ranges)
	}
}

func TestCancelledPullIsContinuedByTheNext(t *testing.T) {
	r := newRegistry(t)
	img := r.push("app", "v1", "", noise(t, "big", 1<<20))
	ctx, cancel := context.WithCancel(t.Context())
	r.set(func(w http.ResponseWriter, req *http.Request) (http.ResponseWriter, bool) {
		if isBlob(req, img.layers[0].Digest) {
			return &hangAfter{w, req, 500_000}, false
		}
		return w, false
	})
	s := openTest(t, nil)
	_, err := s.Pull(ctx, r.host()+"/app:v1", &PullOptions{Progress: func(p Progress) {
		if p.Bytes > 0 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	left := leftovers(t, s.Root())
	if len(left) != 1 || !strings.HasPrefix(left[0], "blobs/partial/") {
		t.Fatalf("left behind: %v, want the partial blob", left)
	}
	if _, err := s.s.Collect(t.Context(), &store.CollectOptions{PartialAge: time.Hour}); err != nil {
		t.Fatal(err)
	}
	r.set(func(w http.ResponseWriter, req *http.Request) (http.ResponseWriter, bool) {
		if isBlob(req, img.layers[0].Digest) && req.Header.Get("Range") == "" {
			t.Error("the next pull began at zero")
		}
		return w, false
	})
	pullOne(t, s, r.host()+"/app:v1", nil)
	if left := leftovers(t, s.Root()); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

// hangAfter sends n bytes of a body and then nothing until the client goes.
type hangAfter struct {
	http.ResponseWriter
	req *http.Request
	n   int
}

func (h *hangAfter) Write(p []byte) (int, error) {
	if len(p) > h.n {
		h.ResponseWriter.Write(p[:h.n])
		h.ResponseWriter.(http.Flusher).Flush()
		<-h.req.Context().Done()
		panic(http.ErrAbortHandler)
	}
	h.n -= len(p)
	return h.ResponseWriter.Write(p)
}

func TestStalledConnectionIsBegunAgain(t *testing.T) {
	r := newRegistry(t)
	img := r.push("app", "v1", "", noise(t, "big", 1<<20))
	var once sync.Once
	r.set(func(w http.ResponseWriter, req *http.Request) (http.ResponseWriter, bool) {
		if isBlob(req, img.layers[0].Digest) {
			once.Do(func() { w = &hangAfter{w, req, 100_000} })
		}
		return w, false
	})
	s := openTest(t, nil)
	pullOne(t, s, r.host()+"/app:v1", &PullOptions{StallTimeout: 200 * time.Millisecond})
}

func TestWrongContentIsRefused(t *testing.T) {
	r := newRegistry(t)
	img := r.push("app", "v1", "", noise(t, "big", 1<<20))
	for name, fault := range map[string]func(w http.ResponseWriter) http.ResponseWriter{
		"early": func(w http.ResponseWriter) http.ResponseWriter { return &corrupt{w, 3} },
		"late":  func(w http.ResponseWriter) http.ResponseWriter { return &corrupt{w, 1 << 20} },
	} {
		t.Run(name, func(t *testing.T) {
			r.set(func(w http.ResponseWriter, req *http.Request) (http.ResponseWriter, bool) {
				if isBlob(req, img.layers[0].Digest) {
					return fault(w), false
				}
				return w, false
			})
			s := openTest(t, nil)
			_, err := s.Pull(t.Context(), r.host()+"/app:v1", nil)
			if !errors.Is(err, store.ErrDigest) {
				t.Fatalf("%v, want ErrDigest", err)
			}
			if left := leftovers(t, s.Root()); left != nil {
				t.Errorf("left behind: %v", left)
			}
			// The next pull, from a registry that is sound again, works.
			r.set(nil)
			pullOne(t, s, r.host()+"/app:v1", nil)
		})
	}
}

func TestDamagedPartialIsFetchedAnew(t *testing.T) {
	r := newRegistry(t)
	img := r.push("app", "v1", "", noise(t, "big", 1<<20))
	s := openTest(t, nil)
	if err := s.s.Init(); err != nil {
		t.Fatal(err)
	}
	partial := filepath.Join(s.Root(), "blobs/partial", img.layers[0].Digest.Encoded())
	if err := os.WriteFile(partial, make([]byte, 400_000), 0o600); err != nil {
		t.Fatal(err)
	}
	pullOne(t, s, r.host()+"/app:v1", nil)
	if n := r.count("GET blobs " + string(img.layers[0].Digest)); n != 2 {
		t.Errorf("the layer was asked for %d times, want 2: the rest, then all", n)
	}
}
