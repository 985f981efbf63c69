package image

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/opencontainers/go-digest"
)

// A client's pull fetches what is not here, once; afterwards only the tag is
// asked about.
func TestPullThrough(t *testing.T) {
	needRoot(t)
	up := newRegistry(t)
	first := up.push("team/app", "v1", "", noise(t, "first", 300_000))
	s := openTest(t, nil)
	host := listen(t, s, &ServeOptions{Host: up.host(), PullThrough: true})
	pull := func(reference string, want testImage) {
		t.Helper()
		if img := pullOne(t, openTest(t, nil), host+"/team/app"+reference, nil); img.Manifest() != string(want.manifest.Digest) {
			t.Errorf("%s: got %s, want %s", reference, img.Manifest(), want.manifest.Digest)
		}
	}
	pull(":v1", first)
	if n := up.count("GET blobs"); n != 2 {
		t.Errorf("a miss took %d blobs of upstream, want a config and a layer", n)
	}
	img, err := s.Get(t.Context(), up.host()+"/team/app:v1") // it is an image of the store
	if err != nil {
		t.Fatal(err)
	}
	lease, err := img.Prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lease.Close()
	asked, got := up.count("HEAD manifests"), up.count("GET")
	pull(":v1", first)
	if up.count("HEAD manifests") == asked || up.count("GET") != got {
		t.Errorf("a hit: asked %d times before and %d after, got %d and %d", asked, up.count("HEAD manifests"), got, up.count("GET"))
	}
	second := up.push("team/app", "v1", "", noise(t, "second", 100_000)) // the tag moves on
	pull(":v1", second)
	pull("@"+string(first.manifest.Digest), first)
	third := up.push("team/app", "v3", "", noise(t, "the third", 100_000))
	pull("@"+string(third.manifest.Digest), third)

	v := &visitor{t: t, h: Serve(s, &ServeOptions{Host: up.host(), PullThrough: true})}
	v.want(v.do("GET", "/v2/team/app/manifests/nothing", nil), 404, "MANIFEST_UNKNOWN")
	v.want(v.do("GET", "/v2/team/app/manifests/"+string(digest.FromString("nothing")), nil), 404, "MANIFEST_UNKNOWN")
	v.want(v.do("GET", "/v2/team/app/blobs/"+string(digest.FromString("nothing")), nil), 404, "BLOB_UNKNOWN")
	// What was pushed here stays what it is.
	mine := v.artifact("team/app", "v3", "a/b", nil)
	if w := v.do("HEAD", "/v2/team/app/manifests/v3", nil); w.Header().Get("Docker-Content-Digest") != string(mine.Digest) {
		t.Errorf("a tag that was pushed here is %s", w.Header().Get("Docker-Content-Digest"))
	}
}

// Of an index the images of other machines are fetched when a client asks.
func TestPullThroughIndex(t *testing.T) {
	needRoot(t)
	up := newRegistry(t)
	host := hostPlatform().Architecture
	other := map[bool]string{true: "arm64", false: "amd64"}[host == "amd64"]
	one, two := up.push("app", "", "linux/"+host, noise(t, "one", 100_000)), up.push("app", "", "linux/"+other, noise(t, "second", 200_000))
	index := up.pushIndex("app", "v1", one.manifest, two.manifest)
	s := openTest(t, nil)
	v := visit(t, s, &ServeOptions{Host: up.host(), PullThrough: true})
	if w := v.want(v.do("GET", "/v2/app/manifests/v1", nil), 200, ""); w.Header().Get("Docker-Content-Digest") != string(index.Digest) {
		t.Errorf("the index: %v", w.Header())
	}
	layer := two.layers[0]
	v.want(v.do("GET", "/v2/app/blobs/"+string(layer.Digest), nil), 404, "BLOB_UNKNOWN") // nothing lists it yet
	v.want(v.do("GET", "/v2/app/manifests/"+string(two.manifest.Digest), nil), 200, "")
	if w := v.want(v.do("HEAD", "/v2/app/blobs/"+string(layer.Digest), nil), 200, ""); w.Result().ContentLength != layer.Size {
		t.Errorf("HEAD of a blob that is not here: %v", w.Header())
	}
	whole := gzipped(noise(t, "second", 200_000))
	w := v.want(v.do("GET", "/v2/app/blobs/"+string(layer.Digest), nil, "Range", "bytes=1000-1999"), 206, "")
	if !bytes.Equal(w.Body.Bytes(), whole[1000:2000]) {
		t.Error("a part of a blob that is not here is wrong")
	}
	if _, ok := s.s.HasBlob(layer.Digest); !ok {
		t.Error("the blob was not kept")
	}
}

// Without upstream what is here is served, and the rest is said not to answer.
func TestPullThroughWhenUpstreamIsDown(t *testing.T) {
	needRoot(t)
	up := newRegistry(t)
	here := up.push("app", "here", "", noise(t, "here", 100_000))
	s := openTest(t, nil)
	opts := &ServeOptions{Host: up.host(), PullThrough: true}
	pullOne(t, openTest(t, nil), listen(t, s, opts)+"/app:here", nil)
	up.set(func(w http.ResponseWriter, _ *http.Request) (http.ResponseWriter, bool) {
		w.WriteHeader(http.StatusForbidden) // no reason to try again
		return w, true
	})
	v := visit(t, s, opts)
	v.want(v.do("GET", "/v2/app/manifests/here", nil), 200, "")
	v.want(v.do("GET", "/v2/app/manifests/other", nil), 404, "MANIFEST_UNKNOWN")
	up.Close()
	v = visit(t, s, opts)
	v.want(v.do("GET", "/v2/app/manifests/other", nil), 502, "UNKNOWN")
	host := listen(t, s, opts)
	for _, reference := range []string{":here", "@" + string(here.manifest.Digest)} {
		if img := pullOne(t, openTest(t, nil), host+"/app"+reference, nil); img.Manifest() != string(here.manifest.Digest) {
			t.Errorf("%s: got %s", reference, img.Manifest())
		}
	}
}

// What upstream sends wrong reaches nobody as a whole, and is not kept.
func TestPullThroughOfDamagedBlob(t *testing.T) {
	up := newRegistry(t)
	pushed := up.push("app", "v1", "", noise(t, "x", 300_000))
	layer := pushed.layers[0].Digest
	s := openTest(t, nil)
	opts := &ServeOptions{Host: up.host(), PullThrough: true}
	server := httptest.NewServer(Serve(s, opts))
	defer server.Close()
	v := &visitor{t: t, h: server.Config.Handler}
	v.want(v.do("GET", "/v2/app/manifests/v1", nil), 200, "")
	up.set(func(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, bool) {
		return &corrupt{w, 5000}, false
	})
	if resp, err := http.Get(server.URL + "/v2/app/blobs/" + string(layer)); err == nil {
		data, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil && resp.StatusCode == 200 {
			t.Errorf("%d bytes of a damaged blob look whole", len(data))
		}
	}
	if _, ok := s.s.HasBlob(layer); ok {
		t.Error("a damaged blob was kept")
	}
	up.set(nil)
	v = visit(t, s, opts)
	if w := v.want(v.do("GET", "/v2/app/blobs/"+string(layer), nil), 200, ""); digest.FromBytes(w.Body.Bytes()) != layer {
		t.Error("the blob is wrong afterwards, too")
	}
}

// A rule of trust holds for what clients make the store fetch.
func TestPullThroughNeedsTrust(t *testing.T) {
	up := newRegistry(t)
	signed, unsigned := up.push("app", "signed", "", noise(t, "s", 1000)), up.push("app", "unsigned", "", noise(t, "un", 1000))
	key := newSigner(t, "ecdsa")
	payload := payloadFor(up.host()+"/app", signed.manifest.Digest)
	up.cosigned("app", signed.manifest, payload, key.sign(t, payload), false)
	for _, rule := range []TrustRule{{Require: TrustReject}, {Require: TrustSignature, Keys: []string{key.pem}}} {
		s := openTest(t, &Options{Trust: []TrustRule{rule}})
		v := visit(t, s, &ServeOptions{Host: up.host(), PullThrough: true})
		for _, reference := range []string{"unsigned", string(unsigned.manifest.Digest)} {
			v.want(v.do("GET", "/v2/app/manifests/"+reference, nil), 404, "MANIFEST_UNKNOWN")
		}
		status, kept := 404, 0
		if rule.Require == TrustSignature {
			status, kept = 200, 1
		}
		v.want(v.do("GET", "/v2/app/manifests/signed", nil), status, "")
		if names, err := s.s.Names(t.Context()); err != nil || len(names) != kept {
			t.Errorf("%s: names %v, %v", rule.Require, names, err)
		}
	}
}
