package image

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

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
	infos, err := served.List(t.Context(), nil)
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
	infos, err := s.List(t.Context(), nil)
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
