package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/store"
)

func TestUploadInChunks(t *testing.T) {
	s := openTest(t, nil)
	one, two := visit(t, s, nil), visit(t, s, nil) // two processes, as far as they know
	place := one.want(one.do("POST", "/v2/app/blobs/uploads/", nil), 202, "").Header().Get("Location")
	one.want(one.do("PATCH", place, []byte("hello "), "Content-Range", "0-5"), 202, "")
	w := two.want(two.do("PATCH", place, []byte("world"), "Content-Range", "9-13"), 416, "BLOB_UPLOAD_INVALID")
	if w.Header().Get("Range") != "0-5" || w.Header().Get("Location") != place {
		t.Errorf("out of order: %v", w.Header())
	}
	two.want(two.do("PATCH", place, []byte("hello "), "Content-Range", "0-5"), 416, "")
	two.want(two.do("PATCH", place, []byte("world"), "Content-Range", "6-20"), 400, "SIZE_INVALID")
	two.want(two.do("PATCH", place, []byte("world"), "Content-Range", "six-ten"), 400, "BLOB_UPLOAD_INVALID")
	// A connection that breaks leaves what came.
	one.want(one.do("PATCH", place, io.MultiReader(strings.NewReader("wo"), brokenReader{})), 400, "BLOB_UPLOAD_INVALID")
	w = two.want(two.do("GET", place, nil), 204, "")
	if w.Header().Get("Range") != "0-7" {
		t.Errorf("after a broken chunk: %v", w.Header())
	}
	elsewhere := strings.Replace(place, "/app/", "/other/", 1)
	two.want(two.do("GET", elsewhere, nil), 404, "BLOB_UPLOAD_UNKNOWN")
	two.want(two.do("PUT", place+"?digest=sha256:12", nil), 400, "DIGEST_INVALID")
	d := digest.FromString("hello world")
	two.want(two.do("PUT", place+"?digest="+string(d), []byte("rld"), "Content-Range", "8-10"), 201, "")
	one.want(one.do("GET", place, nil), 404, "BLOB_UPLOAD_UNKNOWN")
	if w := one.do("GET", "/v2/app/blobs/"+string(d), nil, "Range", "bytes=6-"); w.Code != 206 || w.Body.String() != "world" {
		t.Errorf("range: %d %s", w.Code, w.Body)
	}
	one.want(one.do("GET", "/v2/other/blobs/"+string(d), nil), 404, "BLOB_UNKNOWN")

	place = one.do("POST", "/v2/app/blobs/uploads/", nil).Header().Get("Location")
	one.want(one.do("PUT", place+"?digest="+string(d), []byte("something else")), 400, "DIGEST_INVALID")
	one.want(one.do("GET", place, nil), 404, "BLOB_UPLOAD_UNKNOWN")
	place = one.do("POST", "/v2/app/blobs/uploads", nil).Header().Get("Location")
	one.want(one.do("DELETE", place, nil), 204, "")
	one.want(one.do("PATCH", place, []byte("x")), 404, "BLOB_UPLOAD_UNKNOWN")
	for _, bad := range []string{"/v2/app/blobs/uploads/..", "/v2/app/blobs/uploads/x", "/v2/app/blobs/uploads/" + strings.Repeat("0", 24)} {
		one.want(one.do("PATCH", bad, []byte("x")), 404, "BLOB_UPLOAD_UNKNOWN")
	}
	w = one.do("POST", "/v2/mine/blobs/uploads/?from=app&mount="+string(d), nil)
	one.want(w, 201, "")
	one.want(one.do("POST", "/v2/third/blobs/uploads/?mount="+string(d), nil), 201, "")
	one.want(one.do("POST", "/v2/third/blobs/uploads/?from=app&mount="+string(digest.FromString("none")), nil), 202, "")
	one.want(one.do("HEAD", "/v2/mine/blobs/"+string(d), nil), 200, "")
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

func TestHostileManifests(t *testing.T) {
	s := openTest(t, nil)
	v := visit(t, s, &ServeOptions{MaxManifest: 20_000, MaxBlob: 1000, MaxUploads: 2})
	put := func(ref, contentType string, m any) *httptest.ResponseRecorder {
		return v.do("PUT", "/v2/app/manifests/"+ref, m, "Content-Type", contentType)
	}
	manifest := func(change func(m map[string]any)) map[string]any {
		m := map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "layers": []any{},
			"config": v.blob("app", []byte("{}"))}
		if change != nil {
			change(m)
		}
		return m
	}
	none := ocispec.Descriptor{MediaType: "a/b", Digest: digest.FromString("none"), Size: 4}
	const oci = ocispec.MediaTypeImageManifest
	v.want(put("1", oci, []byte("not json")), 400, "MANIFEST_INVALID")
	v.want(put("1", oci, []byte(`{"schemaVersion":1,"fsLayers":[]}`)), 400, "MANIFEST_INVALID")
	v.want(put("1", oci, manifest(func(m map[string]any) { m["schemaVersion"] = 3 })), 400, "MANIFEST_INVALID")
	v.want(put("1", oci, manifest(func(m map[string]any) { delete(m, "config") })), 400, "MANIFEST_INVALID")
	v.want(put("1", oci, manifest(func(m map[string]any) { m["manifests"] = []any{} })), 400, "MANIFEST_INVALID")
	v.want(put("1", oci, manifest(func(m map[string]any) { m["mediaType"] = "text/html" })), 400, "MANIFEST_INVALID")
	v.want(put("1", store.DockerManifest, manifest(nil)), 400, "MANIFEST_INVALID")
	v.want(put("1", ocispec.MediaTypeImageIndex, manifest(nil)), 400, "MANIFEST_INVALID")
	v.want(put("1", oci, manifest(func(m map[string]any) { m["layers"] = []any{none} })), 404, "MANIFEST_BLOB_UNKNOWN")
	v.want(put("1", oci, manifest(func(m map[string]any) {
		m["layers"] = []any{map[string]any{"mediaType": "a/b", "digest": "sha256:../../x", "size": 1}}
	})), 400, "MANIFEST_INVALID")
	v.want(put("1", oci, manifest(func(m map[string]any) {
		c := m["config"].(ocispec.Descriptor)
		c.Size = 1 << 40
		m["config"] = c
	})), 400, "MANIFEST_INVALID")
	v.want(put("1", ocispec.MediaTypeImageIndex, map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex, "manifests": []any{none}}), 404, "MANIFEST_BLOB_UNKNOWN")
	v.want(put("1", oci, manifest(func(m map[string]any) { m["annotations"] = map[string]string{"a": strings.Repeat("x", 30_000)} })), 413, "MANIFEST_INVALID")
	v.want(put("..", oci, manifest(nil)), 400, "MANIFEST_INVALID")
	v.want(put(strings.Repeat("t", 200), oci, manifest(nil)), 400, "MANIFEST_INVALID")
	v.want(put(string(none.Digest), oci, manifest(nil)), 400, "DIGEST_INVALID")
	v.want(v.do("PUT", "/v2/app/manifests/1", io.MultiReader(strings.NewReader("{"), brokenReader{}), "Content-Type", oci), 400, "MANIFEST_INVALID")
	v.want(v.do("POST", "/v2/app/blobs/uploads/?digest="+string(none.Digest), make([]byte, 2000)), 413, "SIZE_INVALID")
	v.want(v.do("POST", "/v2/app/blobs/uploads/?digest="+string(none.Digest), io.MultiReader(bytes.NewReader(make([]byte, 2000)))), 413, "SIZE_INVALID")
	v.want(v.do("POST", "/v2/app/blobs/uploads/?digest=md5:12", nil), 400, "DIGEST_INVALID")
	v.want(v.do("POST", "/v2/app/blobs/uploads/", nil), 202, "")
	v.want(v.do("POST", "/v2/app/blobs/uploads/", nil), 202, "")
	v.want(v.do("POST", "/v2/app/blobs/uploads/", nil), 429, "TOOMANYREQUESTS")
	// A blob is no manifest, whatever it looks like.
	v.want(v.do("GET", "/v2/app/manifests/"+string(digest.FromString("{}")), nil), 404, "MANIFEST_UNKNOWN")
	names, err := s.s.Names(t.Context())
	if err != nil || len(names) != 0 {
		t.Errorf("names: %v, %v", names, err)
	}
}

func TestServeAccess(t *testing.T) {
	s := openTest(t, nil)
	importTest(t, s, "team/app:1", "x")
	importTest(t, s, "secret/app:1", "y")
	v := visit(t, s, &ServeOptions{Login: func(user, password string) bool { return password == "pass-"+user }})
	if w := v.want(v.do("GET", "/v2/", nil), 401, "UNAUTHORIZED"); !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("no challenge: %v", w.Header())
	}
	v.want(v.do("GET", "/v2/team/app/manifests/1", nil), 401, "UNAUTHORIZED")
	login := func(v *visitor, user, password string) {
		r := &http.Request{Header: http.Header{}}
		r.SetBasicAuth(user, password)
		v.header = r.Header
	}
	login(v, "ann", "wrong")
	v.want(v.do("GET", "/v2/team/app/manifests/1", nil), 401, "UNAUTHORIZED")
	login(v, "ann", "pass-ann")
	v.want(v.do("GET", "/v2/team/app/manifests/1", nil), 200, "")

	v = visit(t, s, &ServeOptions{Login: func(user, password string) bool { return password == "pass-"+user },
		Allow: func(_ *http.Request, a Access) bool {
			return a.Action == "list" || a.Action == "pull" && strings.HasPrefix(a.Repository, "team/") || a.User == "root"
		}})
	v.want(v.do("GET", "/v2/", nil), 401, "")
	d := v.want(v.do("GET", "/v2/team/app/manifests/1", nil), 200, "").Header().Get("Docker-Content-Digest")
	v.want(v.do("GET", "/v2/secret/app/manifests/1", nil), 401, "UNAUTHORIZED")
	v.want(v.do("POST", "/v2/team/app/blobs/uploads/", nil), 401, "UNAUTHORIZED")
	if w := v.do("GET", "/v2/_catalog", nil); strings.TrimSpace(w.Body.String()) != `{"repositories":["team/app"]}` {
		t.Errorf("catalog: %s", w.Body)
	}
	login(v, "ann", "pass-ann")
	v.want(v.do("DELETE", "/v2/team/app/manifests/"+d, nil), 403, "DENIED")
	login(v, "root", "pass-root")
	v.want(v.do("GET", "/v2/secret/app/manifests/1", nil), 200, "")
	// What one may not read one cannot mount.
	secret, err := s.Get(t.Context(), "secret/app:1")
	if err != nil {
		t.Fatal(err)
	}
	writer := visit(t, s, &ServeOptions{Allow: func(_ *http.Request, a Access) bool { return !strings.HasPrefix(a.Repository, "secret/") }})
	layer := string(secret.Blobs()[0].Digest)
	writer.want(writer.do("POST", "/v2/team/app/blobs/uploads/?from=secret/app&mount="+layer, nil), 202, "")
	writer.want(writer.do("POST", "/v2/team/app/blobs/uploads/?mount="+layer, nil), 202, "")
	writer.want(writer.do("GET", "/v2/team/app/blobs/"+layer, nil), 404, "BLOB_UNKNOWN")

	v = visit(t, s, &ServeOptions{ReadOnly: true})
	v.want(v.do("GET", "/v2/team/app/manifests/1", nil), 200, "")
	for _, r := range [][2]string{{"POST", "/v2/team/app/blobs/uploads/"}, {"PUT", "/v2/team/app/manifests/2"}, {"DELETE", "/v2/team/app/manifests/1"}} {
		v.want(v.do(r[0], r[1], nil), 405, "UNSUPPORTED")
	}
}

// Clients that stall lose their connection, not their upload.
func TestStallingClient(t *testing.T) {
	s := openTest(t, nil)
	host := listen(t, s, &ServeOptions{StallTimeout: 300 * time.Millisecond})
	resp, err := http.Post("http://"+host+"/v2/app/blobs/uploads/", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	place := "http://" + host + resp.Header.Get("Location")
	r, w := io.Pipe()
	defer w.Close()
	go w.Write([]byte("hello "))
	req, _ := http.NewRequestWithContext(t.Context(), "PATCH", place, r)
	if resp, err := http.DefaultClient.Do(req); err == nil {
		resp.Body.Close()
		if resp.StatusCode != 400 {
			t.Errorf("a client that stalls got %s", resp.Status)
		}
	}
	w.Close()
	d := digest.FromString("hello world")
	req, _ = http.NewRequestWithContext(t.Context(), "PUT", place+"?digest="+string(d), strings.NewReader("world"))
	if resp, err = http.DefaultClient.Do(req); err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 201 {
		text, _ := io.ReadAll(resp.Body)
		t.Errorf("to go on: %s %s", resp.Status, text)
	}
}

// Many clients push images that share layers to two handlers, while others
// delete and the collector runs: every push that succeeded is whole.
func TestPushDeleteAndCollectAtOnce(t *testing.T) {
	s := openTest(t, &Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	handlers := []*visitor{visit(t, s, nil), visit(t, openTest(t, &Options{Root: s.Root(), State: t.TempDir()}), nil)}
	shared := bytes.Repeat([]byte("shared"), 10_000)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := s.s.Collect(t.Context(), nil); err != nil {
					t.Error(err)
				}
				time.Sleep(2 * time.Millisecond) // others want the locks, too
			}
		}
	}()
	for i := range 6 {
		v := handlers[i%2]
		wg.Go(func() {
			for k := range 5 {
				tag := fmt.Sprintf("t%d-%d", i, k)
				m := v.artifact("app", tag, "a/b", nil, shared, []byte(tag))
				for _, d := range []digest.Digest{digest.FromBytes(shared), digest.FromString(tag)} {
					v.want(v.do("GET", "/v2/app/blobs/"+string(d), nil), 200, "")
				}
				if k%2 == 1 {
					v.want(v.do("DELETE", "/v2/app/manifests/"+string(m.Digest), nil), 202, "")
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	<-collected
	var list struct{ Tags []string }
	w := handlers[0].do("GET", "/v2/app/tags/list", nil)
	json.Unmarshal(w.Body.Bytes(), &list)
	if len(list.Tags) != 18 {
		t.Errorf("tags: %q", list.Tags)
	}
	for _, v := range handlers {
		for _, tag := range list.Tags {
			v.want(v.do("GET", "/v2/app/manifests/"+tag, nil), 200, "")
			v.want(v.do("GET", "/v2/app/blobs/"+string(digest.FromString(tag)), nil), 200, "")
		}
	}
}
