package registry

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/amphora-go/amphora/image"
)

// serve starts a registry over an empty store on loopback.
func serve(t *testing.T, opts *image.ServeOptions) (*image.Store, string) {
	t.Helper()
	s, err := image.Open(t.Context(), &image.Options{Root: t.TempDir(), State: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(image.Serve(s, opts))
	t.Cleanup(server.Close)
	return s, strings.TrimPrefix(server.URL, "http://")
}

// randomIndex is an index of two platforms, in OCI's types.
func randomIndex(t *testing.T) v1.ImageIndex {
	t.Helper()
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{"amd64", "arm64"} {
		img := randomImage(t)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	return index
}

// randomImage has OCI's types and layers that are compressed: clients rewrite
// others on their way.
func randomImage(t *testing.T) v1.Image {
	t.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for range 3 {
		plain, err := random.Layer(1<<20, types.OCIUncompressedLayer)
		if err != nil {
			t.Fatal(err)
		}
		layer, err := tarball.LayerFromOpener(plain.Uncompressed, tarball.WithMediaType(types.OCILayer))
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			t.Fatal(err)
		}
	}
	return img
}

// onlyDigest is that of the one image or index in a layout.
func onlyDigest(t *testing.T, dir string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(data, &index); err != nil || len(index.Manifests) != 1 {
		t.Fatalf("%s: %v", data, err)
	}
	return index.Manifests[0].Digest.String()
}

func TestSkopeo(t *testing.T) {
	program, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skip("Debian's skopeo is not installed")
	}
	skopeo := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), program, append([]string{"--insecure-policy"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("skopeo %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	dir := t.TempDir()
	in, err := layout.Write(filepath.Join(dir, "in"), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.AppendIndex(randomIndex(t), layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "v1"})); err != nil {
		t.Fatal(err)
	}
	// skopeo 1.9 writes indexes in its own words, also between directories.
	skopeo("copy", "--all", "oci:"+dir+"/in:v1", "oci:"+dir+"/own:v1")
	want := onlyDigest(t, filepath.Join(dir, "own"))

	login := func(user, password string) bool { return user == "ann" && password == "secret" }
	s, host := serve(t, &image.ServeOptions{Host: "registry.test", Login: login})
	skopeo("copy", "--all", "--preserve-digests", "--dest-tls-verify=false", "--dest-creds=ann:secret", "oci:"+dir+"/own:v1", "docker://"+host+"/team/app:v1")
	if _, err := s.Get(t.Context(), "registry.test/team/app:v1"); err != nil {
		t.Errorf("it is no image of the store: %v", err)
	}
	var seen struct{ Digest string }
	if err := json.Unmarshal([]byte(skopeo("inspect", "--tls-verify=false", "--creds=ann:secret", "--override-arch=arm64", "docker://"+host+"/team/app:v1")), &seen); err != nil || seen.Digest != want {
		t.Errorf("inspect: %s, %v; want %s", seen.Digest, err, want)
	}
	var list struct{ Tags []string }
	if err := json.Unmarshal([]byte(skopeo("list-tags", "--tls-verify=false", "--creds=ann:secret", "docker://"+host+"/team/app")), &list); err != nil || !slices.Equal(list.Tags, []string{"v1"}) {
		t.Errorf("list-tags: %q, %v", list.Tags, err)
	}
	// From one registry of ours to another, and out.
	_, second := serve(t, nil)
	skopeo("copy", "--all", "--preserve-digests", "--src-tls-verify=false", "--src-creds=ann:secret", "--dest-tls-verify=false", "docker://"+host+"/team/app:v1", "docker://"+second+"/other/name:v2")
	skopeo("copy", "--all", "--preserve-digests", "--src-tls-verify=false", "docker://"+second+"/other/name:v2", "oci:"+dir+"/out:v2")
	if got := onlyDigest(t, filepath.Join(dir, "out")); got != want {
		t.Errorf("copied out: %s, want %s", got, want)
	}
	skopeo("delete", "--tls-verify=false", "docker://"+second+"/other/name:v2")
	if b, err := exec.CommandContext(t.Context(), program, "inspect", "--tls-verify=false", "docker://"+second+"/other/name:v2").CombinedOutput(); err == nil {
		t.Errorf("deleted, and still there: %s", b)
	}
}

func TestCrane(t *testing.T) {
	_, host := serve(t, nil)
	img := randomImage(t)
	want, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	one, two := host+"/team/app:v1", host+"/other/app:v2"
	if err := crane.Push(img, one); err != nil {
		t.Fatal(err)
	}
	if err := crane.Copy(one, two); err != nil { // by mounts
		t.Fatal(err)
	}
	if err := crane.Tag(two, "v3"); err != nil {
		t.Fatal(err)
	}
	again, err := crane.Pull(host + "/other/app:v3")
	if err != nil {
		t.Fatal(err)
	}
	if err := crane.SaveOCI(again, t.TempDir()); err != nil { // reads and verifies it all
		t.Fatal(err)
	}
	if got, err := again.Digest(); err != nil || got != want {
		t.Errorf("pulled %s, %v; pushed %s", got, err, want)
	}
	if repos, err := crane.Catalog(host); err != nil || !slices.Equal(repos, []string{"other/app", "team/app"}) {
		t.Errorf("catalog: %q, %v", repos, err)
	}
	if tags, err := crane.ListTags(host + "/other/app"); err != nil || !slices.Equal(tags, []string{"v2", "v3"}) {
		t.Errorf("tags: %q, %v", tags, err)
	}
	if err := crane.Delete(host + "/other/app@" + want.String()); err != nil {
		t.Error(err)
	}
	if _, err := crane.Digest(two); err == nil {
		t.Error("deleted, and still there")
	}
	if got, err := crane.Digest(one); err != nil || got != want.String() {
		t.Errorf("the other repository lost it, too: %s, %v", got, err)
	}
}
