package image

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// testRegistry is a registry with faults.
type testRegistry struct {
	*httptest.Server
	t     testing.TB
	inner http.Handler

	mu       sync.Mutex
	requests []string // "GET blobs sha256:..."
	// fault may answer a request itself, or wrap the writer.
	fault func(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, bool)
}

func newRegistry(t testing.TB) *testRegistry {
	t.Helper()
	r := &testRegistry{t: t, inner: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *testRegistry) host() string { return strings.TrimPrefix(r.URL, "http://") }

func (r *testRegistry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	fault := r.fault
	parts := strings.Split(req.URL.Path, "/")
	if len(parts) > 3 && (req.Method == http.MethodGet || req.Method == http.MethodHead) {
		r.requests = append(r.requests, req.Method+" "+strings.Join(parts[len(parts)-2:], " "))
	}
	r.mu.Unlock()
	if fault != nil && (req.Method == http.MethodGet || req.Method == http.MethodHead) {
		var done bool
		if w, done = fault(w, req); done {
			return
		}
	}
	r.inner.ServeHTTP(w, req)
}

func (r *testRegistry) set(fault func(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, bool)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = fault
}

// count is how many requests began so.
func (r *testRegistry) count(prefix string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, q := range r.requests {
		if strings.HasPrefix(q, prefix) {
			n++
		}
	}
	return n
}

func (r *testRegistry) send(method, path, contentType string, body []byte) *httptest.ResponseRecorder {
	r.t.Helper()
	req := httptest.NewRequest(method, path, bytes.NewReader(body))
	req.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	r.inner.ServeHTTP(w, req)
	if w.Code >= 300 {
		r.t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return w
}

func (r *testRegistry) pushBlob(repo string, data []byte) digest.Digest {
	r.t.Helper()
	d := digest.FromBytes(data)
	r.send(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+string(d), "application/octet-stream", data)
	return d
}

func (r *testRegistry) pushManifest(repo, tag, mediaType string, v any) ocispec.Descriptor {
	r.t.Helper()
	data, ok := v.([]byte)
	if !ok {
		var err error
		if data, err = json.Marshal(v); err != nil {
			r.t.Fatal(err)
		}
	}
	d := digest.FromBytes(data)
	if tag == "" {
		tag = string(d)
	}
	r.send(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, mediaType, data)
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

// testImage is what push made.
type testImage struct {
	manifest ocispec.Descriptor
	layers   []ocispec.Descriptor
	config   digest.Digest
}

// push makes an image of gzip layers for a platform.
func (r *testRegistry) push(repo, tag, platform string, layers ...[]byte) testImage {
	r.t.Helper()
	p, err := parsePlatform(platform)
	if err != nil {
		r.t.Fatal(err)
	}
	var img testImage
	config := ocispec.Image{Platform: p, Config: ocispec.ImageConfig{Cmd: []string{"/hello"}}, RootFS: ocispec.RootFS{Type: "layers"}}
	for _, plain := range layers {
		packed := gzipped(plain)
		d := r.pushBlob(repo, packed)
		img.layers = append(img.layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: d, Size: int64(len(packed))})
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(plain))
	}
	data, _ := json.Marshal(config)
	img.config = r.pushBlob(repo, data)
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Layers: img.layers,
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: img.config, Size: int64(len(data))}}
	m.SchemaVersion = 2
	img.manifest = r.pushManifest(repo, tag, m.MediaType, m)
	img.manifest.Platform = &p
	return img
}

func gzipped(plain []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	z.Write(plain)
	z.Close()
	return b.Bytes()
}

// noise is a layer that does not compress to nothing.
func noise(t testing.TB, name string, size int) []byte {
	body := make([]byte, size)
	state := uint64(len(name)) + 12345
	for i := range body {
		state = state*6364136223846793005 + 1442695040888963407
		body[i] = byte(state >> 56)
	}
	return tarOf(t, file{name: name, body: string(body)})
}

func (r *testRegistry) pushIndex(repo, tag string, images ...ocispec.Descriptor) ocispec.Descriptor {
	r.t.Helper()
	ix := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: images}
	ix.SchemaVersion = 2
	return r.pushManifest(repo, tag, ix.MediaType, ix)
}

// cutAfter breaks the connection after n bytes of a body.
type cutAfter struct {
	http.ResponseWriter
	n int
}

func (c *cutAfter) Write(p []byte) (int, error) {
	if len(p) > c.n {
		c.ResponseWriter.Write(p[:c.n])
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	c.n -= len(p)
	return c.ResponseWriter.Write(p)
}

// corrupt changes one byte of a body.
type corrupt struct {
	http.ResponseWriter
	at int
}

func (c *corrupt) Write(p []byte) (int, error) {
	if c.at >= 0 && c.at < len(p) {
		p = bytes.Clone(p)
		p[c.at] ^= 0xff
	}
	c.at -= len(p)
	return c.ResponseWriter.Write(p)
}

func isBlob(r *http.Request, d digest.Digest) bool {
	return strings.HasSuffix(r.URL.Path, "/blobs/"+string(d))
}
