package testenv

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// small is an image that takes no time to make.
func small(ref string) Image {
	return Image{Ref: ref, Layers: [][]File{{{Name: "etc/"}, {Name: "etc/motd", Data: bytes.Repeat([]byte("motd\n"), 1000)}}, {{Name: "b", Data: []byte("b")}}}}
}

// TestArchivesAreReadByOthers: go-containerregistry reads what we write.
func TestArchivesAreReadByOthers(t *testing.T) {
	one, two := small("example.com/one:1"), LayeredImage(t, "example.com/two:latest")
	two.Compress = "zstd"
	for kind, data := range map[string][]byte{"old": DockerArchive(t, one, two), "25": DockerArchive25(t, one, two)} {
		for _, i := range []Image{one, two} {
			if kind == "25" {
				i.Compress = "none"
			}
			tag, err := name.NewTag(i.Ref)
			if err != nil {
				t.Fatal(err)
			}
			img, err := tarball.Image(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }, &tag)
			if err != nil {
				t.Fatalf("%s: %s: %v", kind, i.Ref, err)
			}
			if err := readAll(img); err != nil {
				t.Errorf("%s: %s: %v", kind, i.Ref, err)
			}
			if id, _ := img.ConfigName(); id.String() != i.Build(t).ID.String() {
				t.Errorf("%s: %s: id %s, want %s", kind, i.Ref, id, i.Build(t).ID)
			}
		}
	}
}

func TestLayoutIsReadByOthers(t *testing.T) {
	arm, amd := small("example.com/multi:1"), small("example.com/multi:1")
	arm.Platform, amd.Platform = "linux/arm64", "linux/amd64"
	data := OCILayout(t, small("example.com/one:1"), arm, amd)
	dir := filepath.Join(Dir(t), "layout")
	if err := explode(dir, untar(t, data)); err != nil {
		t.Fatal(err)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil || len(m.Manifests) != 2 || !m.Manifests[1].MediaType.IsIndex() {
		t.Fatalf("%+v, %v: want an image and an index", m, err)
	}
	nested, err := index.ImageIndex(m.Manifests[1].Digest)
	if err != nil {
		t.Fatal(err)
	}
	platforms, err := nested.IndexManifest()
	if err != nil || len(platforms.Manifests) != 2 {
		t.Fatalf("%+v, %v: want two platforms", platforms, err)
	}
	for _, p := range platforms.Manifests {
		img, err := nested.Image(p.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if err := readAll(img); err != nil {
			t.Errorf("%v: %v", p.Platform, err)
		}
	}
}

func TestRegistryAuthentication(t *testing.T) {
	for _, opts := range []RegistryOptions{{}, {User: "u", Password: "p"}, {User: "u", Password: "p", Token: true}, {Token: true}} {
		r := NewRegistry(t, &opts)
		built := r.Push(t, "app", "1", small(""))
		ref, err := name.ParseReference(r.Host + "/app:1")
		if err != nil {
			t.Fatal(err)
		}
		img, err := remote.Image(ref, remote.WithAuth(&authn.Basic{Username: "u", Password: "p"}))
		if err != nil {
			t.Fatalf("%+v: %v", opts, err)
		}
		if err := readAll(img); err != nil {
			t.Errorf("%+v: %v", opts, err)
		}
		if d, _ := img.Digest(); d.String() != built.Manifest.String() {
			t.Errorf("digest %s, want %s", d, built.Manifest)
		}
		if _, err := remote.Image(ref, remote.WithAuth(&authn.Basic{Username: "u", Password: "wrong"})); (err != nil) != (opts.User != "") {
			t.Errorf("%+v with a wrong password: %v", opts, err)
		}
	}
}

func TestRegistryFaults(t *testing.T) {
	r := NewRegistry(t, nil)
	built := r.Push(t, "app", "1", small(""))
	blob := "/v2/app/blobs/" + built.layers[0].Digest.String()
	fetch := func(rng string) (int, []byte, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		q, _ := http.NewRequestWithContext(ctx, "GET", r.URL+blob, nil)
		if rng != "" {
			q.Header.Set("Range", rng)
		}
		resp, err := http.DefaultClient.Do(q)
		if err != nil {
			return 0, nil, err
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		return resp.StatusCode, data, err
	}
	whole := built.layers[0].data
	if code, data, err := fetch("bytes=10-"); code != http.StatusPartialContent || err != nil || !bytes.Equal(data, whole[10:]) {
		t.Fatalf("range: %d, %d bytes, %v", code, len(data), err)
	}
	r.Inject(Corrupt(blob, 1))
	if _, data, err := fetch(""); err != nil || len(data) != len(whole) || bytes.Equal(data, whole) {
		t.Errorf("corrupt: %d bytes, %v", len(data), err)
	}
	if _, data, err := fetch(""); err != nil || !bytes.Equal(data, whole) {
		t.Errorf("after one corrupt answer: %v", err)
	}
	r.Inject(Truncate(blob, 1, 7))
	if _, data, err := fetch(""); len(data) != 7 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("truncated: %d bytes, %v", len(data), err)
	}
	r.Inject(Stall(blob, 1, 7))
	if _, data, err := fetch(""); len(data) != 7 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stalled: %d bytes, %v", len(data), err)
	}
	r.Inject(Answer(blob, 0, 429))
	for range 2 {
		if code, _, _ := fetch(""); code != 429 {
			t.Errorf("code %d", code)
		}
	}
	r.Heal()
	if code, _, _ := fetch(""); code != 200 {
		t.Errorf("healed: code %d", code)
	}
	if n := len(r.Requests("GET " + blob)); n != 8 {
		t.Errorf("%d requests on record", n)
	}
}

// readAll reads every layer and compares with the diff ids of the configuration.
func readAll(img ggcr.Image) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	config, err := img.ConfigFile()
	if err != nil || len(config.RootFS.DiffIDs) != len(layers) {
		return fmt.Errorf("configuration: %v, %v", config, err)
	}
	for n, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			return err
		}
		sum, _, err := ggcr.SHA256(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
		if sum != config.RootFS.DiffIDs[n] {
			return fmt.Errorf("layer %d has %s, want %s", n, sum, config.RootFS.DiffIDs[n])
		}
	}
	return nil
}

// untar turns a tar back into files.
func untar(t *testing.T, data []byte) []File {
	t.Helper()
	var files []File
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		f := File{Name: h.Name, Type: h.Typeflag, Mode: h.Mode, Data: body, Link: h.Linkname}
		if strings.HasSuffix(h.Name, "/") {
			f.Data = nil
		}
		files = append(files, f)
	}
}
