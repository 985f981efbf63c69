package build

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/build/deliver"
	"github.com/amphora-go/amphora/internal/testenv"
)

// shop is an image of a base and two layers that a build made.
func shop(t *testing.T, y *yard) (base *image.Image, p product) {
	base = y.base(t, testenv.LayeredImage(t, "example.com/base:1"))
	one := y.made(t, testenv.File{Name: "srv/"}, testenv.File{Name: "srv/a", Data: []byte("a\n"), UID: 7, Mode: 0o4755})
	two := y.made(t, testenv.File{Name: "srv/"}, testenv.File{Name: "srv/.wh.a"}, testenv.File{Name: "srv/b", Data: []byte("bb\n")})
	config := frontendConfig(t, base, noLayer("ENV A=1"), by("COPY a /srv"), noLayer("LABEL x=y"), by("RUN mv"), noLayer("CMD"))
	return base, product{platform: base.Platform(), config: config, base: base.RawConfig(), layers: append(slices.Clone(base.Layers()), one, two)}
}

func TestExportedImage(t *testing.T) {
	y := newYard(t)
	base, p := shop(t, y)
	x := y.exporter("shop:1", "example.com/shop:2")
	r, err := x.export(t.Context(), []product{p}, nil)
	if err != nil {
		t.Fatal(err)
	}
	img := r.Image
	if r.ID != img.ID() || r.Manifest != img.Manifest() || string(r.Descriptor.Digest) != r.Manifest || r.Platforms[0].ID != r.ID ||
		!slices.Equal(r.Names, []string{"docker.io/library/shop:1", "example.com/shop:2"}) {
		t.Errorf("result %+v", r)
	}
	c := img.Config()
	if n := len(base.Layers()); len(c.RootFS.DiffIDs) != n+2 || !slices.Equal(c.RootFS.DiffIDs[:n], base.Config().RootFS.DiffIDs) {
		t.Errorf("diff ids %v", c.RootFS.DiffIDs)
	}
	blobs := img.Blobs()
	for i, b := range base.Blobs() {
		if b.Digest != blobs[i].Digest || blobs[i].MediaType != ocispec.MediaTypeImageLayerGzip {
			t.Errorf("layer %d of the base is %+v, was %+v", i, blobs[i], b)
		}
	}
	if top := blobs[len(blobs)-1]; top.MediaType != ocispec.MediaTypeImageLayer || top.Digest != c.RootFS.DiffIDs[len(blobs)-1] || top.Size == 0 {
		t.Errorf("top layer %+v", top)
	}
	var raw map[string]any
	if json.Unmarshal(img.RawConfig(), &raw); raw["x-kept"] == nil || raw["config"].(map[string]any)["ArgsEscaped"] != true {
		t.Errorf("lost what we do not know: %s", img.RawConfig())
	}
	h := img.History()
	if len(h) != len(base.History())+5 || h[0].CreatedBy != "CMD" || h[1].CreatedBy != "RUN mv" || h[1].Layer != img.Layers()[len(blobs)-1] || h[1].Size != 3 {
		t.Errorf("history %+v", h)
	}
	for i, e := range h[:5] {
		if time.Since(e.Created) > time.Hour || i > 0 && e.Created.After(h[i-1].Created) {
			t.Errorf("history entry %d of %v", i, e.Created)
		}
	}
	if time.Since(*c.Created) > time.Hour {
		t.Errorf("created %v", c.Created)
	}
	for _, layer := range img.Layers() {
		if _, err := os.Stat(filepath.Join(y.store.Root(), "layers", layer, "pending")); err == nil {
			t.Errorf("layer %s of a named image is not synced", layer)
		}
	}
	got := merged(t, y, img)
	if got["srv/b"] != "bb\n" || got["srv/a"] != "" || got["opt/app/new"] != "new\n" {
		t.Errorf("files %v", got)
	}
}

// merged is what a container of the image sees of the files that matter here.
func merged(t *testing.T, y *yard, img *image.Image) map[string]string {
	t.Helper()
	var b bytes.Buffer
	lowers, err := y.store.Lowers(img.Layers())
	if err == nil {
		err = deliver.Tar(t.Context(), &b, []deliver.Tree{{Lowers: lowers}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return contents(t, &b)
}

func contents(t *testing.T, r io.Reader) map[string]string {
	t.Helper()
	files := map[string]string{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(data)
	}
}

// TestEverythingWorksOnIt does with a built image what is done with others.
func TestEverythingWorksOnIt(t *testing.T) {
	y := newYard(t)
	_, p := shop(t, y)
	registry := testenv.NewRegistry(t, nil)
	name := registry.Host + "/shop:1"
	r, err := y.exporter(name).export(t.Context(), []product{p}, nil)
	if err != nil {
		t.Fatal(err)
	}
	other := newYard(t)
	t.Run("save", func(t *testing.T) {
		var b bytes.Buffer
		if err := y.images.Save(t.Context(), &b, []string{name}, nil); err != nil {
			t.Fatal(err)
		}
		loaded, err := other.images.Load(t.Context(), &b, nil)
		if err != nil || loaded[0].Image.ID() != r.ID || loaded[0].Image.Manifest() != r.Manifest {
			t.Fatalf("%+v, %v; want %s", loaded, err, r.ID)
		}
		if got := merged(t, other, loaded[0].Image); got["srv/b"] != "bb\n" {
			t.Errorf("files %v", got)
		}
	})
	t.Run("push", func(t *testing.T) {
		if _, err := y.images.Push(t.Context(), name, nil); err != nil {
			t.Fatal(err)
		}
		img, err := other.images.Pull(t.Context(), name, nil)
		if err != nil || img.ID() != r.ID {
			t.Fatalf("%v, %v; want %s", img, err, r.ID)
		}
		for _, b := range img.Blobs() {
			if b.MediaType != ocispec.MediaTypeImageLayerGzip {
				t.Errorf("pushed as %s", b.MediaType)
			}
		}
	})
	t.Run("copy", func(t *testing.T) {
		if _, err := y.images.Copy(t.Context(), name, registry.Host+"/else:1", nil); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("commit", func(t *testing.T) {
		img, err := y.images.Commit(t.Context(), r.Manifest, bytes.NewReader(testenv.Tar(t, []testenv.File{{Name: "srv/c", Data: []byte("c")}})), &image.CommitOptions{Ref: "more"})
		if err != nil {
			t.Fatal(err)
		}
		lease, err := img.Prepare(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer lease.Close()
		if got := merged(t, y, img); got["srv/b"] != "bb\n" || got["srv/c"] != "c" {
			t.Errorf("files %v", got)
		}
		if _, err := y.images.Remove(t.Context(), "more", nil); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("remove", func(t *testing.T) {
		y.lease.Close()
		for _, n := range []string{name, "example.com/base:1"} {
			if _, err := y.images.Remove(t.Context(), n, nil); err != nil {
				t.Fatal(err)
			}
		}
		left, _ := filepath.Glob(filepath.Join(y.store.Root(), "layers", "[0-9a-f]*"))
		blobs, _ := filepath.Glob(filepath.Join(y.store.Root(), "blobs", "sha256", "*"))
		if len(left)+len(blobs) > 0 {
			t.Errorf("left %v, %v", left, blobs)
		}
	})
}

// TestEpochBoundsTimes: the same build on two stores, an hour apart, gives one digest.
func TestEpochBoundsTimes(t *testing.T) {
	var digests []string
	for i := range 2 {
		y := newYard(t)
		base := y.base(t, testenv.BaseImage(t, "base"))
		when := time.Now().Add(time.Duration(i) * time.Hour)
		one := y.made(t, testenv.File{Name: "etc/"}, testenv.File{Name: "etc/new", Data: []byte("x"), ModTime: when},
			testenv.File{Name: "etc/old", ModTime: epoch.Add(-time.Hour)}, testenv.File{Name: "etc/link", Link: "new", ModTime: when},
			testenv.File{Name: "etc/hard", Type: tar.TypeLink, Link: "etc/new", ModTime: when}, testenv.File{Name: "etc/.wh.motd"})
		os.Chtimes(filepath.Join(y.store.LayerDir(one), "etc"), when, when)
		old := y.made(t, testenv.File{Name: "x/", ModTime: epoch}, testenv.File{Name: "x/.wh.y"})
		os.Chtimes(filepath.Join(y.store.LayerDir(old), "x"), epoch, epoch)
		at := epoch
		p := product{platform: base.Platform(), config: frontendConfig(t, base, by("one"), by("old")), base: base.RawConfig(), layers: append(slices.Clone(base.Layers()), one, old), epoch: &at}
		for range 2 { // the second time from what was remembered
			r, err := y.exporter("shop").export(t.Context(), []product{p}, nil)
			if err != nil {
				t.Fatal(err)
			}
			digests = append(digests, r.Manifest)
			c := r.Image.Config()
			if !c.Created.Equal(epoch) || !c.History[0].Created.Equal(testenv.Epoch) || !c.History[1].Created.Equal(epoch) {
				t.Errorf("created %v, history %+v", c.Created, c.History)
			}
		}
		if st, err := os.Lstat(filepath.Join(y.store.LayerDir(one), "etc/new")); err != nil || st.ModTime().Before(when.Add(-time.Minute)) {
			t.Errorf("the build's own layer was changed: %v, %v", st.ModTime(), err)
		}
		if got, err := y.store.Clamped(t.Context(), y.lease, old, epoch); err != nil || got != old {
			t.Errorf("a layer without later times was copied: %v, %v", got, err)
		}
	}
	if slices.ContainsFunc(digests, func(d string) bool { return d != digests[0] }) {
		t.Errorf("digests differ: %v", digests)
	}
}
