package image

import (
	"encoding/json"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/store"
)

// An image that lost its compressed layers is served whole: with the digest
// that its layers have now, by every process the same, whatever is collected.
func TestServeDroppedBlobs(t *testing.T) {
	needRoot(t)
	r := newRegistry(t)
	pushed := r.push("app", "v1", "", noise(t, "base", 100_000), tarOf(t, file{name: "d/", typ: '5'}, file{name: "d/f", body: "x"}))
	s := openTest(t, nil)
	configure(t, s, record.Images{DropBlobs: true})
	pullOne(t, s, r.host()+"/app:v1", nil)
	for _, l := range pushed.layers {
		if _, ok := s.s.HasBlob(l.Digest); ok {
			t.Fatalf("blob %s was not dropped", l.Digest)
		}
	}
	opts := &ServeOptions{Host: r.host()}
	v := visit(t, s, opts)
	served := func(v *visitor) (string, ocispec.Manifest) {
		t.Helper()
		var m ocispec.Manifest
		w := v.want(v.do("GET", "/v2/app/manifests/v1", nil), 200, "")
		if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		d := w.Header().Get("Docker-Content-Digest")
		if d != string(digest.FromBytes(w.Body.Bytes())) {
			t.Errorf("the manifest is not what its digest %s says", d)
		}
		v.want(v.do("GET", "/v2/app/manifests/"+d, nil), 200, "")
		for _, b := range append(m.Layers, m.Config) {
			w := v.want(v.do("GET", "/v2/app/blobs/"+string(b.Digest), nil), 200, "")
			if digest.FromBytes(w.Body.Bytes()) != b.Digest || int64(w.Body.Len()) != b.Size {
				t.Errorf("blob %s is wrong", b.Digest)
			}
		}
		return d, m
	}
	first, m := served(v)
	if m.Config.Digest != pushed.config || len(m.Layers) != 2 {
		t.Errorf("another image is served: %+v", m)
	}
	if _, err := s.s.Collect(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if again, _ := served(v); again != first {
		t.Errorf("served %s, then %s", first, again)
	}
	if again, _ := served(visit(t, s, opts)); again != first { // another process
		t.Errorf("served %s, by another process %s", first, again)
	}
	client := openTest(t, nil)
	if img := pullOne(t, client, listen(t, s, opts)+"/app:v1", nil); img.ID() != string(pushed.config) {
		t.Errorf("a client got %s", img.ID())
	}
	if verified, err := client.Verify(t.Context(), nil); err != nil || len(verified.Problems) > 0 {
		t.Errorf("what the client got: %+v, %v", verified, err)
	}
	// When nobody asks any more, what was made is garbage.
	if _, err := s.s.Collect(t.Context(), &store.CollectOptions{IdleAge: -1}); err != nil {
		t.Fatal(err)
	}
	if again, _ := served(v); again != first {
		t.Errorf("served %s, and made again %s", first, again)
	}
}

// What clients pushed stays as they sent it: nobody else need have it.
func TestPushedBlobsAreNotDropped(t *testing.T) {
	needRoot(t)
	r := newRegistry(t)
	r.push("app", "v1", "", noise(t, "n", 100_000))
	for _, host := range []string{"docker.io", "registry.test"} {
		s, client := openTest(t, nil), openTest(t, nil)
		configure(t, s, record.Images{DropBlobs: true})
		at := listen(t, s, &ServeOptions{Host: host})
		want := pullOne(t, client, r.host()+"/app:v1", nil)
		if err := client.Tag(t.Context(), r.host()+"/app:v1", at+"/team/app:1"); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Push(t.Context(), at+"/team/app:1", nil); err != nil {
			t.Fatal(err)
		}
		img, err := s.Get(t.Context(), host+"/team/app:1")
		if err != nil {
			t.Fatal(err)
		}
		l, err := img.Prepare(t.Context()) // unpacked: a blob could go
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		s.s.Wait()
		for _, b := range img.Blobs() {
			if err := s.s.Unhold(host+"/team/app", b.Digest); err != nil {
				t.Fatal(err)
			}
		}
		if p, err := s.Trim(t.Context()); err != nil || len(p.Blobs) > 0 {
			t.Errorf("host %s: dropped %+v, %v", host, p, err)
		}
		pullOne(t, openTest(t, nil), at+"/team/app@"+want.Manifest(), nil)
	}
}
