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
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/store"
)

// visitor asks a handler.
type visitor struct {
	t      testing.TB
	h      http.Handler
	header http.Header
}

func visit(t testing.TB, s *Store, opts *ServeOptions) *visitor {
	return &visitor{t: t, h: Serve(s, opts)}
}

func (v *visitor) do(method, path string, body any, header ...string) *httptest.ResponseRecorder {
	v.t.Helper()
	r, ok := body.(io.Reader)
	if data, isBytes := body.([]byte); isBytes {
		r = bytes.NewReader(data)
	} else if body != nil && !ok {
		data, err := json.Marshal(body)
		if err != nil {
			v.t.Fatal(err)
		}
		r = bytes.NewReader(data)
	}
	req := httptest.NewRequest(method, "http://registry.test/", r)
	req.URL.Path, req.URL.RawQuery, _ = strings.Cut(path, "?")
	for k, h := range v.header {
		req.Header[k] = h
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	v.h.ServeHTTP(w, req)
	return w
}

// want sees that an answer has a status, and an error its code.
func (v *visitor) want(w *httptest.ResponseRecorder, status int, code string) *httptest.ResponseRecorder {
	v.t.Helper()
	var e struct {
		Errors []struct{ Code, Message string }
	}
	if code != "" {
		json.Unmarshal(w.Body.Bytes(), &e)
	}
	if w.Code != status || code != "" && (len(e.Errors) != 1 || e.Errors[0].Code != code || e.Errors[0].Message == "") {
		v.t.Errorf("got %d %s, want %d %s", w.Code, w.Body, status, code)
	}
	return w
}

func (v *visitor) blob(repo string, data []byte) ocispec.Descriptor {
	v.t.Helper()
	d := digest.FromBytes(data)
	v.want(v.do("POST", "/v2/"+repo+"/blobs/uploads/?digest="+string(d), data), 201, "")
	return ocispec.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: int64(len(data))}
}

// artifact pushes a manifest of a type that is no image's.
func (v *visitor) artifact(repo, reference, kind string, subject *ocispec.Descriptor, layers ...[]byte) ocispec.Descriptor {
	v.t.Helper()
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: kind, Subject: subject, Layers: []ocispec.Descriptor{}}
	m.SchemaVersion = 2
	m.Config = v.blob(repo, []byte("{}"))
	m.Config.MediaType = ocispec.MediaTypeEmptyJSON
	for _, l := range layers {
		m.Layers = append(m.Layers, v.blob(repo, l))
	}
	data, _ := json.Marshal(m)
	d := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if reference == "" {
		reference = string(d.Digest)
	}
	w := v.want(v.do("PUT", "/v2/"+repo+"/manifests/"+reference, data, "Content-Type", m.MediaType), 201, "")
	if subject != nil && w.Header().Get("OCI-Subject") != string(subject.Digest) {
		v.t.Errorf("OCI-Subject is %q", w.Header().Get("OCI-Subject"))
	}
	return d
}

// listen serves a store on loopback.
func listen(t testing.TB, s *Store, opts *ServeOptions) string {
	t.Helper()
	server := httptest.NewServer(Serve(s, opts))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// One image for two platforms goes from a registry to a store, by an archive
// to another one and from that to a registry, and is the same to the byte.
func TestImageMovesThroughEverythingUnchanged(t *testing.T) {
	needRoot(t)
	from := newRegistry(t)
	host := hostPlatform().Architecture
	other := map[bool]string{true: "arm64", false: "amd64"}[host == "amd64"]
	one, two := from.push("team/app", "", "linux/"+host, noise(t, "one", 300_000)), from.push("team/app", "", "linux/"+other, noise(t, "second", 200_000))
	index := from.pushIndex("team/app", "v1", one.manifest, two.manifest)

	a, b, served := openTest(t, nil), openTest(t, nil), openTest(t, nil)
	name := from.host() + "/team/app:v1"
	for _, p := range []string{"linux/" + other, "linux/" + host} {
		if _, err := a.Pull(t.Context(), name, &PullOptions{Platform: p}); err != nil {
			t.Fatal(err)
		}
	}
	var archive bytes.Buffer
	if err := a.Save(t.Context(), &archive, []string{name}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Load(t.Context(), &archive, nil); err != nil {
		t.Fatal(err)
	}
	to := listen(t, served, &ServeOptions{Host: "registry.test"})
	if err := b.Tag(t.Context(), name, to+"/moved/app:v2"); err != nil {
		t.Fatal(err)
	}
	pushed, err := b.Push(t.Context(), to+"/moved/app:v2", nil)
	if err != nil {
		t.Fatal(err)
	}
	if pushed[0].Digest != string(index.Digest) {
		t.Errorf("pushed %s, it was %s", pushed[0].Digest, index.Digest)
	}
	img, err := served.Get(t.Context(), "registry.test/moved/app:v2")
	if err != nil {
		t.Fatal(err)
	}
	if img.Manifest() != string(one.manifest.Digest) || img.ID() != string(one.config) {
		t.Errorf("in the store of the registry it is %s", img.Manifest())
	}
	lease, err := img.Prepare(t.Context()) // a container can use it
	if err != nil {
		t.Fatal(err)
	}
	lease.Close()
	c := openTest(t, nil)
	for _, p := range []string{"linux/" + other, "linux/" + host} {
		again, err := c.Pull(t.Context(), to+"/moved/app:v2", &PullOptions{Platform: p})
		if err != nil {
			t.Fatal(err)
		}
		want := map[bool]ocispec.Descriptor{true: one.manifest, false: two.manifest}[p == "linux/"+host]
		if again.Manifest() != string(want.Digest) {
			t.Errorf("%s: pulled %s, it was %s", p, again.Manifest(), want.Digest)
		}
	}
	infos, err := served.List(t.Context())
	if err != nil || len(infos) != 1 || infos[0].Problem != "" || len(infos[0].Refs) != 1 || len(infos[0].Digests) != 1 {
		t.Errorf("the registry's store lists %+v, %v", infos, err)
	}
}

func TestServedNames(t *testing.T) {
	s := openTest(t, nil)
	for _, name := range []string{"alpine", "team/app", "ghcr.io/team/app", "localhost:5000/app", "localhost/app", "registry.test/app", "library/a/b"} {
		if _, err := s.Import(t.Context(), bytes.NewReader(tarOf(t, file{name: "f", body: name})), &ImportOptions{Ref: name}); err != nil {
			t.Fatal(err)
		}
	}
	repositories := func(host string) []string {
		var list struct{ Repositories []string }
		w := visit(t, s, &ServeOptions{Host: host}).do("GET", "/v2/_catalog", nil)
		json.Unmarshal(w.Body.Bytes(), &list)
		for _, repo := range list.Repositories {
			v := visit(t, s, &ServeOptions{Host: host})
			v.want(v.do("GET", "/v2/"+repo+"/manifests/latest", nil), 200, "")
		}
		return list.Repositories
	}
	for host, want := range map[string][]string{
		"":               {"alpine", "ghcr.io/team/app", "library/a/b", "localhost/app", "registry.test/app", "team/app"},
		"docker.io":      {"alpine", "library/a/b", "team/app"},
		"registry.test":  {"app"},
		"localhost:5000": {"app"},
	} {
		if got := repositories(host); !slices.Equal(got, want) {
			t.Errorf("host %q serves %q, want %q", host, got, want)
		}
	}
	v := visit(t, s, nil)
	v.want(v.do("HEAD", "/v2/library/alpine/manifests/latest", nil), 200, "")
	v.want(v.do("HEAD", "/v2/docker.io/library/alpine/manifests/latest", nil), 200, "")
	for _, path := range []string{"/v2/../app/manifests/x", "/v2/a//b/manifests/x", "/v2/A/manifests/x", "/v2/a/%2e%2e/manifests/x", "/v2/" + strings.Repeat("a", 300) + "/tags/list",
		"/v2/a\x00/tags/list", "/v2/-a/blobs/uploads/"} {
		v.want(v.do("GET", path, nil), 400, "NAME_INVALID")
	}
	for _, path := range []string{"/", "/v1/", "/v2/a", "/v2/a/b/c", "/v2/tags/list/x"} {
		v.want(v.do("GET", path, nil), 404, "UNSUPPORTED")
	}
	for _, path := range []string{"/v2/team/app/manifests/..%2f..%2fx", "/v2/team/app/manifests/sha256:" + strings.Repeat("0", 64), "/v2/team/app/manifests/nothing"} {
		v.want(v.do("GET", path, nil), 404, "MANIFEST_UNKNOWN")
	}
	v.want(v.do("GET", "/v2/none/tags/list", nil), 404, "NAME_UNKNOWN")
	v.want(v.do("GET", "/v2/team/app/manifests/sha256:..", nil), 400, "DIGEST_INVALID")
	v.want(v.do("GET", "/v2/team/app/blobs/sha256:../../../engine.json", nil), 404, "UNSUPPORTED")
	v.want(v.do("POST", "/v2/team/app/tags/list", nil), 405, "UNSUPPORTED")
}

func TestPagination(t *testing.T) {
	v := visit(t, openTest(t, nil), nil)
	for _, tag := range []string{"c", "a", "e", "b", "d"} {
		v.artifact("app", tag, "a/b", nil)
	}
	var got []string
	for path := "/v2/app/tags/list?n=2"; path != ""; {
		var list struct{ Tags []string }
		w := v.want(v.do("GET", path, nil), 200, "")
		json.Unmarshal(w.Body.Bytes(), &list)
		got = append(got, strings.Join(list.Tags, ""))
		path, _, _ = strings.Cut(strings.TrimPrefix(w.Header().Get("Link"), "<"), ">")
	}
	if strings.Join(got, " ") != "ab cd e" {
		t.Errorf("pages %q", got)
	}
	if w := v.do("GET", "/v2/app/tags/list?n=0", nil); strings.TrimSpace(w.Body.String()) != `{"name":"app","tags":[]}` || w.Header().Get("Link") != "" {
		t.Errorf("n=0: %s", w.Body)
	}
	v.want(v.do("GET", "/v2/app/tags/list?n=x", nil), 400, "PAGINATION_NUMBER_INVALID")
}

// Artifacts are stored, found by their subject, and no images.
func TestArtifactsAndReferrers(t *testing.T) {
	s := openTest(t, nil)
	importTest(t, s, "app:1", "x")
	v := visit(t, s, nil)
	w := v.want(v.do("GET", "/v2/app/manifests/1", nil), 200, "")
	subject := ocispec.Descriptor{MediaType: w.Header().Get("Content-Type"), Digest: digest.Digest(w.Header().Get("Docker-Content-Digest")), Size: int64(w.Body.Len())}
	signature := v.artifact("app", "", "example/signature", &subject, []byte("signed"))
	v.artifact("app", "sbom", "example/sbom", &subject, []byte("list"))
	list := func(query string) (kinds []string) {
		var index ocispec.Index
		w := v.want(v.do("GET", "/v2/app/referrers/"+string(subject.Digest)+query, nil), 200, "")
		if err := json.Unmarshal(w.Body.Bytes(), &index); err != nil || w.Header().Get("Content-Type") != ocispec.MediaTypeImageIndex {
			t.Error(err, w.Header())
		}
		for _, m := range index.Manifests {
			kinds = append(kinds, m.ArtifactType)
		}
		slices.Sort(kinds)
		if (query != "") != (w.Header().Get("OCI-Filters-Applied") == "artifactType") {
			t.Errorf("filters: %v", w.Header())
		}
		return kinds
	}
	if got := list(""); !slices.Equal(got, []string{"example/sbom", "example/signature"}) {
		t.Errorf("referrers %q", got)
	}
	if got := list("?artifactType=example/sbom"); !slices.Equal(got, []string{"example/sbom"}) {
		t.Errorf("referrers %q", got)
	}
	v.want(v.do("GET", "/v2/nobody/referrers/"+string(subject.Digest), nil), 200, "")
	infos, err := s.List(t.Context())
	if err != nil || len(infos) != 1 {
		t.Errorf("images: %+v, %v", infos, err)
	}
	if _, err := s.Get(t.Context(), "app:sbom"); err == nil || !strings.Contains(err.Error(), `artifact of type "example/sbom"`) {
		t.Errorf("an artifact as an image: %v", err)
	}
	if _, err := s.s.Collect(t.Context(), &store.CollectOptions{IdleAge: -1}); err != nil {
		t.Fatal(err)
	}
	v.want(v.do("HEAD", "/v2/app/blobs/"+string(digest.FromString("signed")), nil), 200, "")
	v.want(v.do("DELETE", "/v2/app/manifests/"+string(signature.Digest), nil), 202, "")
	v.want(v.do("DELETE", "/v2/app/blobs/"+string(digest.FromString("signed")), nil), 202, "")
	v.want(v.do("GET", "/v2/app/blobs/"+string(digest.FromString("signed")), nil), 404, "BLOB_UNKNOWN")
	if _, ok := s.s.HasBlob(digest.FromString("signed")); ok {
		t.Error("the signature's data is still on disk")
	}
	if _, err := s.Remove(t.Context(), "app:sbom", nil); err != nil { // the store removes it like an image
		t.Error(err)
	}
}

// A tag that moves on leaves its manifest behind, an index takes its images
// with it, and what is needed cannot be deleted.
func TestDeletion(t *testing.T) {
	s := openTest(t, nil)
	v := visit(t, s, nil)
	first := v.artifact("app", "latest", "a/b", nil, []byte("1"))
	second := v.artifact("app", "latest", "a/b", nil, []byte("2"))
	v.want(v.do("GET", "/v2/app/manifests/"+string(first.Digest), nil), 200, "")
	v.want(v.do("DELETE", "/v2/app/blobs/"+string(digest.FromString("2")), nil), 405, "UNSUPPORTED")
	v.want(v.do("DELETE", "/v2/app/manifests/latest", nil), 202, "")
	v.want(v.do("GET", "/v2/app/manifests/latest", nil), 404, "MANIFEST_UNKNOWN")
	v.want(v.do("GET", "/v2/app/manifests/"+string(second.Digest), nil), 200, "")

	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{first, second}}
	index.SchemaVersion = 2
	data, _ := json.Marshal(index)
	v.want(v.do("PUT", "/v2/app/manifests/all", data, "Content-Type", index.MediaType), 201, "")
	v.want(v.do("DELETE", "/v2/app/manifests/"+string(first.Digest), nil), 405, "UNSUPPORTED")
	names, err := s.s.Names(t.Context())
	if err != nil || len(names) != 2 {
		t.Errorf("names: %v, %v", names, err)
	}
	v.want(v.do("DELETE", "/v2/app/manifests/"+string(digest.FromBytes(data)), nil), 202, "")
	v.want(v.do("GET", "/v2/app/manifests/"+string(first.Digest), nil), 404, "")
	if _, err := s.s.Collect(t.Context(), &store.CollectOptions{IdleAge: -1}); err != nil {
		t.Fatal(err)
	}
	if left := contents(t, s.Root()); left != nil {
		t.Errorf("left: %v", left)
	}
}

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
