package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/store"
	"github.com/amphora-go/amphora/internal/testenv"
)

func TestMirrorsHealth(t *testing.T) {
	origin, bad := newRegistry(t), newRegistry(t)
	for i := range 3 {
		origin.push("app", fmt.Sprint("v", i), "", tarOf(t, file{name: "f", body: fmt.Sprint(i)}))
	}
	bad.set(func(w http.ResponseWriter, req *http.Request) (http.ResponseWriter, bool) {
		panic(http.ErrAbortHandler)
	})
	opts := &Options{Root: t.TempDir(), State: t.TempDir(), Mirrors: map[string][]string{origin.host(): {bad.URL}}}
	pullOne(t, openTest(t, opts), origin.host()+"/app:v0", nil)
	asked := bad.count("")
	// Another program: nothing is asked of what failed a moment ago.
	s := openTest(t, opts)
	pullOne(t, s, origin.host()+"/app:v1", nil)
	if n := bad.count(""); n != asked {
		t.Errorf("a mirror that failed was asked %d times more", n-asked)
	}
	// But it is when the registry itself does not help, and its word counts.
	origin.Close()
	bad.set(nil)
	bad.push("app", "v2", "", tarOf(t, file{name: "f", body: "2"}))
	pullOne(t, s, origin.host()+"/app:v2", nil)
	if s.health.sick(bad.host()) {
		t.Error("a mirror that helped is still thought to be sick")
	}
}

func TestRateLimits(t *testing.T) {
	r := newRegistry(t)
	r.push("app", "v1", "", tarOf(t, file{name: "f", body: "x"}))
	s := openTest(t, nil)
	limit := func(times int, header http.Header) {
		var mu sync.Mutex
		r.set(func(w http.ResponseWriter, req *http.Request) (http.ResponseWriter, bool) {
			mu.Lock()
			defer mu.Unlock()
			if times == 0 || !strings.Contains(req.URL.Path, "/manifests/") {
				return w, false
			}
			times--
			for k, v := range header {
				w.Header()[k] = v
			}
			w.WriteHeader(http.StatusTooManyRequests)
			return w, true
		})
	}
	limit(-1, http.Header{"Ratelimit-Limit": {"100;w=21600"}, "Ratelimit-Remaining": {"0;w=21600"}, "Docker-Ratelimit-Source": {"192.0.2.7"}})
	before := r.count("")
	_, err := s.Pull(t.Context(), r.host()+"/app:v1", nil)
	for _, want := range []string{"100 requests", "6h0m0s", "192.0.2.7", "try again in", "log in"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if n := r.count("") - before; n > 2 {
		t.Errorf("%d requests though hours are to be waited", n)
	}
	limit(-1, http.Header{"Retry-After": {"7200"}})
	if _, err := s.Pull(t.Context(), r.host()+"/app:v1", nil); err == nil || !strings.Contains(err.Error(), "2h0m0s") {
		t.Errorf("Retry-After: %v", err)
	}
	// A short wait is waited.
	limit(2, http.Header{"Retry-After": {"1"}})
	pullOne(t, s, r.host()+"/app:v1", nil)
}

func TestLimitOf(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{"60": time.Minute, "Thu, 01 Jan 2026 13:00:00 GMT": time.Hour, "Thu, 01 Jan 2026 11:00:00 GMT": 0, "-5": 0, "soon": 0, "": 0} {
		if got := limitOf(http.Header{"Retry-After": {value}}, now); got.wait != want {
			t.Errorf("%q: %v, want %v", value, got.wait, want)
		}
	}
}

func TestStalledQuestions(t *testing.T) {
	r := newRegistry(t)
	img := r.push("app", "v1", "", tarOf(t, file{name: "f", body: "x"}))
	s := openTest(t, nil)
	for _, part := range []string{"/v2/", "/manifests/v1", "/manifests/" + string(img.manifest.Digest), "/blobs/" + string(img.config)} {
		var mu sync.Mutex
		times := 2
		r.set(func(w http.ResponseWriter, req *http.Request) (http.ResponseWriter, bool) {
			mu.Lock()
			hit := strings.HasSuffix(req.URL.Path, part) && times > 0
			if hit {
				times--
			}
			mu.Unlock()
			if hit {
				<-req.Context().Done()
			}
			return w, hit
		})
		if _, err := s.Pull(t.Context(), r.host()+"/app:v1", &PullOptions{StallTimeout: 100 * time.Millisecond}); err != nil {
			t.Errorf("%s stalled twice: %v", part, err)
		}
		if times != 0 {
			t.Errorf("%s was not asked for", part)
		}
		if _, err := s.Remove(t.Context(), r.host()+"/app:v1", nil); err != nil {
			t.Fatal(err)
		}
	}
	// A push's questions, and its manifest.
	pullOne(t, s, r.host()+"/app:v1", nil)
	var mu sync.Mutex
	seen := map[string]bool{}
	to := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		first := !seen[req.Method+req.URL.Path]
		seen[req.Method+req.URL.Path] = true
		mu.Unlock()
		if first && (req.Method == http.MethodHead || strings.Contains(req.URL.Path, "/manifests/")) {
			io.Copy(io.Discard, req.Body)
			<-req.Context().Done()
			return
		}
		r.inner.ServeHTTP(w, req)
	}))
	defer to.Close()
	target := strings.TrimPrefix(to.URL, "http://") + "/copy:v1"
	if err := s.Tag(t.Context(), r.host()+"/app:v1", target); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Push(t.Context(), target, &PushOptions{StallTimeout: 100 * time.Millisecond}); err != nil {
		t.Errorf("push: %v", err)
	}
}

func TestForeignLayer(t *testing.T) {
	r := newRegistry(t)
	plain := tarOf(t, file{name: "f", body: "foreign"})
	packed := gzipped(plain)
	d := digest.FromBytes(packed)
	var asked http.Header
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked = req.Header.Clone()
		http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(packed))
	}))
	defer elsewhere.Close()
	config, _ := json.Marshal(ocispec.Image{Platform: hostPlatform(), RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(plain)}}})
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: r.pushBlob("app", config), Size: int64(len(config))},
		Layers: []ocispec.Descriptor{{MediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Digest: d, Size: int64(len(packed)), URLs: []string{"ftp://x/y", elsewhere.URL + "/layer"}}}}
	m.SchemaVersion = 2
	r.pushManifest("app", "v1", m.MediaType, m)
	host := strings.TrimPrefix(elsewhere.URL, "http://")
	if _, err := openTest(t, nil).Pull(t.Context(), r.host()+"/app:v1", nil); !errors.Is(err, fs.ErrNotExist) || asked != nil {
		t.Errorf("an image led us to plain HTTP: %v", err)
	}
	s := openTest(t, &Options{Insecure: []string{host}, Keychain: someKeys{}})
	pullOne(t, s, r.host()+"/app:v1", nil)
	if asked == nil || asked.Get("Authorization") != "" {
		t.Errorf("asked with %v", asked)
	}
}

// someKeys has credentials for everybody.
type someKeys struct{}

func (someKeys) Credentials(context.Context, string) (Credentials, error) {
	return Credentials{Username: "user", Password: "hunter2"}, nil
}

func TestCredentialsDoNotFollowRedirects(t *testing.T) {
	inner := newRegistry(t)
	img := inner.push("app", "v1", "", noise(t, "big", 100_000))
	for _, token := range []bool{false, true} {
		reg := testenv.NewRegistry(t, &testenv.RegistryOptions{User: "user", Password: "hunter2", Token: token})
		var mu sync.Mutex
		var seen []http.Header
		// Another port of the same host, and another name: both are others.
		elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			mu.Lock()
			seen = append(seen, req.Header.Clone())
			mu.Unlock()
			inner.inner.ServeHTTP(w, req)
		}))
		defer elsewhere.Close()
		for i, to := range []string{elsewhere.URL, strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1)} {
			reg.Heal()
			reg.Inject(testenv.Fault{Match: "/v2/app/", Do: func(w http.ResponseWriter, q *http.Request, _ http.Handler) {
				http.Redirect(w, q, to+q.URL.Path, http.StatusTemporaryRedirect)
			}})
			s := openTest(t, &Options{Keychain: someKeys{}})
			got := pullOne(t, s, reg.Host+"/app:v1", nil)
			if got.ID() != string(img.config) || len(seen) < 3*(i+1) {
				t.Errorf("%s: %d requests were redirected", to, len(seen))
			}
		}
		for _, h := range seen {
			if h.Get("Authorization") != "" {
				t.Errorf("token %v: credentials followed a redirect: %v", token, h)
			}
		}
	}
}

func TestZstdChunkedIsReadAsZstd(t *testing.T) {
	r := newRegistry(t)
	plain := tarOf(t, file{name: "f", body: strings.Repeat("chunk", 50_000)})
	// Frames of their own for chunks, then skippable ones: the table of
	// contents and its footer, as containers/storage writes them.
	z, _ := zstd.NewWriter(nil)
	var packed []byte
	for rest := plain; len(rest) > 0; {
		n := min(len(rest), 70_000)
		packed = append(packed, z.EncodeAll(rest[:n], nil)...)
		rest = rest[n:]
	}
	skippable := func(data string) {
		packed = append(packed, 0x50, 0x2a, 0x4d, 0x18, byte(len(data)), 0, 0, 0)
		packed = append(packed, data...)
	}
	skippable(`{"version":1,"entries":[]}`)
	skippable("GNUlInUx")
	config, _ := json.Marshal(ocispec.Image{Platform: hostPlatform(), RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(plain)}}})
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: r.pushBlob("app", config), Size: int64(len(config))},
		Layers: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayerZstd, Digest: r.pushBlob("app", packed), Size: int64(len(packed)),
			Annotations: map[string]string{"io.github.containers.zstd-chunked.manifest-checksum": "sha256:0"}}}}
	m.SchemaVersion = 2
	r.pushManifest("app", "v1", m.MediaType, m)
	s := openTest(t, nil)
	img := pullOne(t, s, r.host()+"/app:v1", nil)
	if store.CanUnpack() == nil {
		if b, err := os.ReadFile(filepath.Join(s.s.LayerDir(img.Layers()[0]), "f")); err != nil || len(b) != 250_000 {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	}
}

func TestPullAll(t *testing.T) {
	r := newRegistry(t)
	for i := range 5 {
		r.push("app", fmt.Sprint("v", i), "", tarOf(t, file{name: "f", body: fmt.Sprint(i)}))
	}
	paged := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "/tags/list") {
			last := req.URL.Query().Get("last")
			tags := []string{"v0", "v1"}
			switch last {
			case "":
				w.Header().Set("Link", `</v2/app/tags/list?last=v1&n=2>; rel="next"`)
			case "v1":
				tags = []string{"v2", "v3", "not a tag"}
				w.Header().Set("Link", `</v2/app/tags/list?last=v3&n=2>; rel="next"`)
			case "v3":
				tags = []string{"v4"}
			}
			json.NewEncoder(w).Encode(map[string]any{"name": "app", "tags": tags})
			return
		}
		r.inner.ServeHTTP(w, req)
	}))
	defer paged.Close()
	s := openTest(t, nil)
	name := strings.TrimPrefix(paged.URL, "http://") + "/app"
	all, err := s.PullAll(t.Context(), name, nil)
	if err != nil || len(all) != 5 || all[4].Ref().Tag != "v4" {
		t.Fatalf("%v, %v", all, err)
	}
	astray := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Link", `<`+paged.URL+`/v2/app/tags/list>; rel="next"`)
		fmt.Fprint(w, `{"tags":["v1"]}`)
	}))
	defer astray.Close()
	if _, err := s.Tags(t.Context(), strings.TrimPrefix(astray.URL, "http://")+"/app"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("goes on elsewhere: %v", err)
	}
	if _, err := s.PullAll(t.Context(), name+":v1", nil); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("with a tag: %v", err)
	}
	if _, err := s.Tags(t.Context(), r.host()+"/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of nothing: %v", err)
	}
}

func TestSaveDirTogether(t *testing.T) {
	s := openTest(t, nil)
	dir := filepath.Join(t.TempDir(), "layout")
	var wg sync.WaitGroup
	for i := range 6 {
		ref := fmt.Sprint("app:v", i/2) // two save the same image
		if i%2 == 0 {
			importTest(t, s, ref, ref)
		}
	}
	for i := range 6 {
		wg.Go(func() {
			if err := s.SaveDir(t.Context(), dir, []string{fmt.Sprint("app:v", i/2)}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	other := openTest(t, nil)
	loaded, err := other.LoadDir(t.Context(), dir, nil)
	if err != nil || len(loaded) != 3 {
		t.Fatalf("%v, %v", loaded, err)
	}
	entries, _ := os.ReadDir(dir)
	more, _ := os.ReadDir(filepath.Join(dir, "blobs/sha256"))
	for _, e := range append(entries, more...) {
		if strings.Contains(e.Name(), ".lock") || strings.Contains(e.Name(), ".part") {
			t.Errorf("%s is left", e.Name())
		}
	}
}
