package image_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/testenv"
)

type keys map[string]image.Credentials

func (k keys) Credentials(_ context.Context, registry string) (image.Credentials, error) {
	return k[registry], nil
}

func openStore(t testing.TB, opts *image.Options) *image.Store {
	t.Helper()
	o := image.Options{Keychain: keys{}}
	if opts != nil {
		o = *opts
	}
	if o.Keychain == nil {
		o.Keychain = keys{}
	}
	o.Root, o.State = t.TempDir(), t.TempDir()
	s, err := image.Open(t.Context(), &o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// big is a layer that compresses to more than is sent at once.
func big(seed int64) []testenv.File {
	data := make([]byte, 3<<20)
	rand.New(rand.NewSource(seed)).Read(data)
	return []testenv.File{{Name: "big", Data: data}}
}

func twoLayers(platform, compress string) testenv.Image {
	return testenv.Image{Layers: [][]testenv.File{big(1), {{Name: "small", Data: []byte("small\n")}}}, Platform: platform, Compress: compress}
}

var packed = &image.PullOptions{Packed: true}

func pull(t testing.TB, s *image.Store, name string, opts *image.PullOptions) *image.Image {
	t.Helper()
	img, err := s.Pull(t.Context(), name, opts)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func push(t testing.TB, s *image.Store, name string, opts *image.PushOptions) []image.Pushed {
	t.Helper()
	done, err := s.Push(t.Context(), name, opts)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func tag(t testing.TB, s *image.Store, from, to string) {
	t.Helper()
	if err := s.Tag(t.Context(), from, to); err != nil {
		t.Fatal(err)
	}
}

// The digest pushed is the digest pulled, for every format that registries serve.
func TestPushKeepsDigests(t *testing.T) {
	for _, c := range []struct {
		name string
		img  testenv.Image
	}{
		{"gzip", twoLayers("", "gzip")}, {"zstd", twoLayers("", "zstd")}, {"plain", twoLayers("", "none")},
		{"docker", testenv.Image{Layers: twoLayers("", "").Layers, Docker: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := testenv.NewRegistry(t, nil), testenv.NewRegistry(t, nil)
			built := a.Push(t, "team/app", "1", c.img)
			s := openStore(t, nil)
			pull(t, s, a.Host+"/team/app:1", packed)
			tag(t, s, a.Host+"/team/app:1", b.Host+"/other/name:2")
			done := push(t, s, b.Host+"/other/name:2", nil)
			if len(done) != 1 || done[0].Digest != string(built.Manifest) {
				t.Fatalf("pushed %+v, want digest %s", done, built.Manifest)
			}
			again := pull(t, openStore(t, nil), b.Host+"/other/name:2", packed)
			if again.Manifest() != string(built.Manifest) || again.ID() != string(built.ID) {
				t.Errorf("pulled %s %s", again.Manifest(), again.ID())
			}
			if n := b.Sessions(); n != 0 {
				t.Errorf("%d uploads left open", n)
			}
			// The registry's digest is known now.
			img, _ := s.Get(t.Context(), b.Host+"/other/name:2")
			info, err := img.Info(t.Context())
			if err != nil || len(info.Digests) != 2 {
				t.Errorf("digests %v, %v", info.Digests, err)
			}
			before := len(b.Requests("POST "))
			push(t, s, b.Host+"/other/name:2", nil)
			if after := len(b.Requests("POST ")); after != before {
				t.Errorf("pushing again began %d uploads", after-before)
			}
		})
	}
}

func TestPushMountsAcrossRepositories(t *testing.T) {
	for _, c := range []struct {
		name string
		opts testenv.RegistryOptions
		sent int
	}{
		{"mounted", testenv.RegistryOptions{}, 1}, // the config
		{"with tokens", testenv.RegistryOptions{Token: true}, 1},
		{"refused", testenv.RegistryOptions{NoMount: true}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := testenv.NewRegistry(t, &c.opts)
			built := r.Push(t, "team/app", "1", twoLayers("", ""))
			s := openStore(t, nil)
			pull(t, s, r.Host+"/team/app:1", packed)
			tag(t, s, r.Host+"/team/app:1", r.Host+"/team/copy:1")
			phases := map[image.Phase]string{}
			done := push(t, s, r.Host+"/team/copy:1", &image.PushOptions{Progress: func(p image.Progress) { phases[p.Phase] = p.From }})
			if done[0].Digest != string(built.Manifest) {
				t.Errorf("digest %s", done[0].Digest)
			}
			if n := len(r.Requests("PUT /v2/team/copy/blobs/uploads/")); n != c.sent {
				t.Errorf("%d blobs sent, want %d", n, c.sent)
			}
			if from, ok := phases[image.Mounted]; ok != (c.sent == 1) || ok && from != "team/app" {
				t.Errorf("phases %v", phases)
			}
		})
	}
}

func TestPushGoesOnWhereItBroke(t *testing.T) {
	r := testenv.NewRegistry(t, nil)
	s, name := imported(t, r)
	r.Inject(testenv.CutBody("PATCH ", 1, 2<<20))
	r.Inject(testenv.Answer("PATCH ", 1, http.StatusServiceUnavailable))
	done := push(t, s, name, nil)
	if got := pull(t, openStore(t, nil), name, packed); got.Manifest() != done[0].Digest {
		t.Errorf("pulled %s, pushed %s", got.Manifest(), done[0].Digest)
	}
	if n := len(r.Requests("POST ")); n != 2 { // layer and config: one session each
		t.Errorf("%d sessions were begun", n)
	}
	if n := len(r.Requests("GET /v2/team/app/blobs/uploads/")); n == 0 {
		t.Error("the registry was not asked how far it is")
	}
}

// imported is a store with an image of one plain layer.
func imported(t testing.TB, r *testenv.Registry) (*image.Store, string) {
	t.Helper()
	s := openStore(t, nil)
	name := r.Host + "/team/app:1"
	if _, err := s.Import(t.Context(), bytes.NewReader(testenv.Tar(t, big(2))), &image.ImportOptions{Ref: name, Created: time.Unix(1e9, 0)}); err != nil {
		t.Fatal(err)
	}
	return s, name
}

// A session that the registry lost is begun anew.
func TestPushSessionLost(t *testing.T) {
	r := testenv.NewRegistry(t, nil)
	s, name := imported(t, r)
	r.Inject(testenv.CutBody("PATCH ", 1, 1<<20))
	r.Inject(testenv.Refuse("GET /v2/team/app/blobs/uploads/", 1, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "gone"))
	push(t, s, name, nil)
	if n := len(r.Requests("POST ")); n != 3 {
		t.Errorf("%d sessions were begun", n)
	}
}

func TestPushImportedIsCompressedAndStable(t *testing.T) {
	for _, c := range []struct{ compress, mediaType string }{
		{"", "+gzip"}, {"gzip", "+gzip"}, {"zstd", "+zstd"}, {"keep", "layer.v1.tar"},
	} {
		t.Run(c.compress, func(t *testing.T) {
			r := testenv.NewRegistry(t, nil)
			s, name := imported(t, r)
			one := push(t, s, name, &image.PushOptions{Compress: c.compress})
			s2, _ := imported(t, r)
			two := push(t, s2, name, &image.PushOptions{Compress: c.compress})
			if one[0].Digest != two[0].Digest {
				t.Errorf("the same image gave %s and %s", one[0].Digest, two[0].Digest)
			}
			before, _ := s.Get(t.Context(), name)
			img := pull(t, openStore(t, nil), name, packed)
			if mt := img.Blobs()[0].MediaType; !strings.HasSuffix(mt, c.mediaType) {
				t.Errorf("layer is %s", mt)
			}
			if img.ID() != before.ID() {
				t.Errorf("image id %s became %s", before.ID(), img.ID())
			}
		})
	}
}

func TestPushRecompressesForDocker(t *testing.T) {
	r := testenv.NewRegistry(t, nil)
	i := twoLayers("", "")
	i.Docker = true
	built := r.Push(t, "team/app", "1", i)
	s := openStore(t, nil)
	pull(t, s, r.Host+"/team/app:1", packed)
	tag(t, s, r.Host+"/team/app:1", r.Host+"/team/app:zstd")
	done := push(t, s, r.Host+"/team/app:zstd", &image.PushOptions{Compress: "zstd"})
	if strings.Contains(done[0].MediaType, "docker") {
		t.Errorf("zstd layers in a manifest of type %s", done[0].MediaType)
	}
	img := pull(t, openStore(t, nil), r.Host+"/team/app:zstd", nil) // unpacks: the content is right
	if img.ID() != string(built.ID) || !strings.HasSuffix(img.Blobs()[0].MediaType, "+zstd") {
		t.Errorf("image %s, layer %s", img.ID(), img.Blobs()[0].MediaType)
	}
}

func TestPushPlatforms(t *testing.T) {
	a := testenv.NewRegistry(t, nil)
	arm := twoLayers("linux/arm64", "")
	arm.Layers = append(arm.Layers, []testenv.File{{Name: "arm"}})
	index := a.PushIndex(t, "team/app", "1", twoLayers("linux/amd64", ""), arm, twoLayers("linux/s390x", "zstd"))
	name := a.Host + "/team/app:1"
	all := []string{"linux/amd64", "linux/arm64", "linux/s390x"}
	for have := 1; have <= 3; have++ {
		b := testenv.NewRegistry(t, nil)
		s := openStore(t, nil)
		var last *image.Image
		for _, p := range all[:have] {
			last = pull(t, s, name, &image.PullOptions{Platform: p, Packed: true})
		}
		to := b.Host + "/team/app:1"
		tag(t, s, name, to)
		done := push(t, s, to, nil)[0]
		switch {
		case have == 3 && done.Digest != string(index):
			t.Errorf("all platforms: %s, want the index %s", done.Digest, index)
		case have == 1 && done.Digest != last.Manifest():
			t.Errorf("one platform: %s, want %s", done.Digest, last.Manifest())
		}
		for _, p := range all[:have] {
			pull(t, openStore(t, nil), to, &image.PullOptions{Platform: p, Packed: true})
		}
		if have == 2 {
			one := push(t, s, to, &image.PushOptions{Platform: "linux/arm64"})[0]
			if one.Digest != last.Manifest() {
				t.Errorf("--platform: %s, want %s", one.Digest, last.Manifest())
			}
			if _, err := s.Push(t.Context(), to, &image.PushOptions{Platform: "linux/s390x"}); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("platform that is not here: %v", err)
			}
		}
	}
	// Where the other platforms are in the repository already, the index stays whole.
	s := openStore(t, nil)
	pull(t, s, name, &image.PullOptions{Platform: all[0], Packed: true})
	tag(t, s, name, a.Host+"/team/app:2")
	if done := push(t, s, a.Host+"/team/app:2", nil)[0]; done.Digest != string(index) {
		t.Errorf("retagged in its repository: %s, want %s", done.Digest, index)
	}
}

func TestPushAllTags(t *testing.T) {
	r := testenv.NewRegistry(t, nil)
	s, name := imported(t, r)
	tag(t, s, name, r.Host+"/team/app:2")
	tag(t, s, name, r.Host+"/team/other:3")
	if _, err := s.Push(t.Context(), name, &image.PushOptions{AllTags: true}); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("with a tag: %v", err)
	}
	done := push(t, s, r.Host+"/team/app", &image.PushOptions{AllTags: true})
	if len(done) != 2 || done[0].Ref.Tag != "1" || done[1].Ref.Tag != "2" {
		t.Errorf("pushed %+v", done)
	}
	if n := len(r.Requests("PUT /v2/team/app/blobs/")); n != 2 {
		t.Errorf("%d blobs sent", n)
	}
}
