package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/store"
)

// plainConfig is a config over plain layers.
func plainConfig(t testing.TB, platform string, layers ...[]byte) []byte {
	t.Helper()
	p, err := parsePlatform(platform)
	if err != nil {
		t.Fatal(err)
	}
	c := ocispec.Image{Platform: p, RootFS: ocispec.RootFS{Type: "layers"}}
	for _, l := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digest.FromBytes(l))
	}
	return mustJSON(t, c)
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// dockerArchive is what docker save wrote until version 24: layers first,
// equal layers as symbolic links.
func dockerArchive(t testing.TB, tags []string, layers ...[]byte) []byte {
	t.Helper()
	config := plainConfig(t, "", layers...)
	id := digest.FromBytes(config).Encoded()
	e := dockerEntry{Config: id + ".json", RepoTags: tags}
	var files []file
	seen := map[digest.Digest]string{}
	for i, l := range layers {
		dir := fmt.Sprintf("%064x", i)
		name := dir + "/layer.tar"
		e.Layers = append(e.Layers, name)
		files = append(files, file{name: dir + "/", typ: '5'}, file{name: dir + "/VERSION", body: "1.0"}, file{name: dir + "/json", body: "{}"})
		if first, ok := seen[digest.FromBytes(l)]; ok {
			files = append(files, file{name: name, typ: '2', link: "../" + first})
			continue
		}
		seen[digest.FromBytes(l)] = name
		files = append(files, file{name: name, body: string(l)})
	}
	files = append(files, file{name: e.Config, body: string(config)}, file{name: "manifest.json", body: string(mustJSON(t, []dockerEntry{e}))},
		file{name: "repositories", body: "{}"})
	return tarOf(t, files...)
}

// layoutFiles are the blobs of an image as an OCI layout has them.
func layoutFiles(t testing.TB, platform string, layers ...[]byte) ([]file, ocispec.Descriptor, []byte) {
	t.Helper()
	config := plainConfig(t, platform, layers...)
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest,
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}}
	m.SchemaVersion = 2
	blobs := [][]byte{config}
	for _, l := range layers {
		packed := gzipped(l)
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(packed), Size: int64(len(packed))})
		blobs = append(blobs, packed)
	}
	manifest := mustJSON(t, m)
	files := blobFiles(append(blobs, manifest)...)
	p, _ := parsePlatform(platform)
	return files, ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(manifest), Size: int64(len(manifest)), Platform: &p}, config
}

func blobFiles(blobs ...[]byte) []file {
	var files []file
	for _, b := range blobs {
		files = append(files, file{name: "blobs/sha256/" + digest.FromBytes(b).Encoded(), body: string(b)})
	}
	return files
}

func indexOf(t testing.TB, entries ...ocispec.Descriptor) ([]byte, ocispec.Descriptor) {
	ix := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: entries}
	ix.SchemaVersion = 2
	data := mustJSON(t, ix)
	return data, ocispec.Descriptor{MediaType: ix.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

func annotated(d ocispec.Descriptor, kv ...string) ocispec.Descriptor {
	d.Annotations = map[string]string{}
	for i := 0; i < len(kv); i += 2 {
		d.Annotations[kv[i]] = kv[i+1]
	}
	return d
}

func loadNames(loaded []Loaded) []string {
	var out []string
	for _, l := range loaded {
		for _, r := range l.Refs {
			out = append(out, r.Familiar())
		}
	}
	return out
}

func checkFile(t *testing.T, s *Store, img *Image, layer int, name, want string) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	b, err := os.ReadFile(filepath.Join(s.s.LayerDir(img.Layers()[layer]), name))
	if err != nil || string(b) != want {
		t.Errorf("layer %d has %s = %q, %v; want %q", layer, name, b, err, want)
	}
}

func TestLoadDockerArchive(t *testing.T) {
	one, two := tarOf(t, file{name: "a", body: "1"}), noise(t, "b", 200_000)
	plain := dockerArchive(t, []string{"app:v1", "registry.example/app:v2"}, one, two, one)
	var z bytes.Buffer
	w, _ := zstd.NewWriter(&z)
	w.Write(plain)
	w.Close()
	for name, data := range map[string][]byte{"plain": plain, "gzip": gzipped(plain), "zstd": z.Bytes()} {
		t.Run(name, func(t *testing.T) {
			s := openTest(t, nil)
			loaded, err := s.Load(t.Context(), bytes.NewReader(data), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := loadNames(loaded); !slices.Equal(got, []string{"app:v1", "registry.example/app:v2"}) {
				t.Errorf("names %v", got)
			}
			img, err := s.Get(t.Context(), "app:v1")
			if err != nil || len(img.Layers()) != 3 {
				t.Fatalf("%v, %v", img, err)
			}
			checkFile(t, s, img, 0, "a", "1")
			checkFile(t, s, img, 2, "a", "1")
			if left := leftovers(t, s.Root()); left != nil {
				t.Errorf("left behind: %v", left)
			}
			if got := actions(t, s); !slices.Equal(got, []string{"load app:v1", "load registry.example/app:v2"}) {
				t.Errorf("events %v", got)
			}
		})
	}
}

func TestLoadSeveralDockerImages(t *testing.T) {
	a, b := tarOf(t, file{name: "a", body: "1"}), tarOf(t, file{name: "b", body: "2"})
	configA, configB := plainConfig(t, "", a), plainConfig(t, "", a, b)
	list := []dockerEntry{{Config: "a.json", RepoTags: []string{"a:1"}, Layers: []string{"x/layer.tar"}}, {Config: "b.json", Layers: []string{"x/layer.tar", "y/layer.tar"}}}
	// The list first: one pass must do in either order.
	data := tarOf(t, file{name: "manifest.json", body: string(mustJSON(t, list))}, file{name: "a.json", body: string(configA)}, file{name: "./b.json", body: string(configB)},
		file{name: "x/layer.tar", body: string(a)}, file{name: "y/layer.tar", body: string(b)})
	s := openTest(t, nil)
	loaded, err := s.Load(t.Context(), bytes.NewReader(data), nil)
	if err != nil || len(loaded) != 2 {
		t.Fatalf("%v, %v", loaded, err)
	}
	if loaded[1].Refs != nil {
		t.Errorf("the nameless image has names %v", loaded[1].Refs)
	}
	if img, err := s.Get(t.Context(), loaded[1].Image.ID()); err != nil || len(img.Layers()) != 2 {
		t.Errorf("nameless image: %v", err)
	}
}

func TestLoadLayout(t *testing.T) {
	layer := tarOf(t, file{name: "a", body: "host"})
	host, hostDesc, config := layoutFiles(t, "", layer)
	arm, armDesc, _ := layoutFiles(t, "linux/s390x", tarOf(t, file{name: "a", body: "arm"}))
	inner, innerDesc := indexOf(t, hostDesc, armDesc)
	head := file{name: "oci-layout", body: `{"imageLayoutVersion":"1.0.0"}`}
	build := func(index []byte, files ...[]file) []byte {
		return tarOf(t, append(slices.Concat(files...), head, file{name: "index.json", body: string(index)})...)
	}
	top := func(entries ...ocispec.Descriptor) []byte { data, _ := indexOf(t, entries...); return data }
	docker := []file{{name: "manifest.json", body: string(mustJSON(t, []dockerEntry{{Config: "blobs/sha256/" + digest.FromBytes(config).Encoded(), RepoTags: []string{"old:list"}}}))}}
	for name, c := range map[string]struct {
		data  []byte
		opts  LoadOptions
		names []string
		body  string
	}{
		"containerd names":       {build(top(annotated(hostDesc, annotationName, "docker.io/library/app:v1", ocispec.AnnotationRefName, "v1")), host), LoadOptions{}, []string{"app:v1"}, "host"},
		"full ref name":          {build(top(annotated(hostDesc, ocispec.AnnotationRefName, "localhost/app:v3")), host), LoadOptions{}, []string{"localhost/app:v3"}, "host"},
		"tag only":               {build(top(annotated(hostDesc, ocispec.AnnotationRefName, "v1")), host), LoadOptions{}, nil, "host"},
		"tag with repository":    {build(top(annotated(hostDesc, ocispec.AnnotationRefName, "v1")), host), LoadOptions{Name: "team/app"}, []string{"team/app:v1"}, "host"},
		"names in old list":      {build(top(hostDesc), host, docker), LoadOptions{}, []string{"old:list"}, "host"},
		"nested index":           {build(top(annotated(innerDesc, annotationName, "app")), host, arm, blobFiles(inner)), LoadOptions{Platform: "linux/s390x"}, []string{"app:latest"}, "arm"},
		"index, one present":     {build(top(annotated(innerDesc, annotationName, "app")), host, blobFiles(inner)), LoadOptions{}, []string{"app:latest"}, "host"},
		"platforms side by side": {build(top(hostDesc, armDesc), host, arm), LoadOptions{}, nil, "host"},
	} {
		t.Run(name, func(t *testing.T) {
			s := openTest(t, nil)
			loaded, err := s.Load(t.Context(), bytes.NewReader(c.data), &c.opts)
			if err != nil {
				t.Fatal(err)
			}
			if got := loadNames(loaded); len(loaded) != 1 || !slices.Equal(got, c.names) {
				t.Fatalf("%d images, names %v, want %v", len(loaded), got, c.names)
			}
			checkFile(t, s, loaded[0].Image, 0, "a", c.body)
			if _, err := s.s.Collect(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Get(t.Context(), loaded[0].Image.ID()); err != nil {
				t.Errorf("after a collection: %v", err)
			}
			checkFile(t, s, loaded[0].Image, 0, "a", c.body)
		})
	}
	s := openTest(t, nil)
	_, err := s.Load(t.Context(), bytes.NewReader(build(top(annotated(innerDesc, annotationName, "app")), host, arm, blobFiles(inner))), &LoadOptions{Platform: "linux/riscv64"})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "linux/s390x") {
		t.Errorf("no such platform: %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	layer, big := tarOf(t, file{name: "a", body: "1"}), noise(t, "b", 200_000)
	good := dockerArchive(t, []string{"app"}, layer, big)
	config := plainConfig(t, "", layer)
	manifest := func(e ...dockerEntry) file { return file{name: "manifest.json", body: string(mustJSON(t, e))} }
	conf := file{name: "c.json", body: string(config)}
	entry := dockerEntry{Config: "c.json", Layers: []string{"l.tar"}, RepoTags: []string{"x"}}
	files, desc, _ := layoutFiles(t, "", layer)
	index, _ := indexOf(t, annotated(desc, annotationName, "app"))
	forged := slices.Clone(files)
	forged[1].body = strings.Repeat("x", len(forged[1].body))
	lostManifest, _ := indexOf(t, annotated(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: someDigest, Size: 5}, annotationName, "app"))
	cases := map[string]struct {
		data []byte
		kind error
		says string
	}{
		"empty":                {nil, nil, "empty"},
		"empty tar":            {tarOf(t), fs.ErrInvalid, "empty"},
		"no archive":           {bytes.Repeat([]byte("no tar at all "), 100), fs.ErrInvalid, "not a tar"},
		"root filesystem":      {tarOf(t, file{name: "bin/sh", body: "x"}), fs.ErrInvalid, "Import"},
		"ancient":              {tarOf(t, file{name: "repositories", body: "{}"}), errors.ErrUnsupported, "1.10"},
		"bad manifest":         {tarOf(t, file{name: "manifest.json", body: "{"}), fs.ErrInvalid, "manifest.json"},
		"no images":            {tarOf(t, manifest()), fs.ErrInvalid, "lists no image"},
		"no config":            {tarOf(t, manifest(entry), file{name: "l.tar", body: string(layer)}), fs.ErrInvalid, "c.json"},
		"no layer":             {tarOf(t, manifest(entry), conf), fs.ErrInvalid, "l.tar"},
		"loop of links":        {tarOf(t, manifest(entry), conf, file{name: "l.tar", typ: '2', link: "m.tar"}, file{name: "m.tar", typ: '2', link: "l.tar"}), fs.ErrInvalid, "loop"},
		"link out of it":       {tarOf(t, manifest(entry), conf, file{name: "l.tar", typ: '2', link: "../../../../etc/passwd"}), fs.ErrInvalid, "etc/passwd"},
		"other layer":          {tarOf(t, manifest(entry), conf, file{name: "l.tar", body: string(big)}), fs.ErrInvalid, "config says"},
		"config name lies":     {tarOf(t, manifest(dockerEntry{Config: strings.Repeat("0", 64) + ".json"}), file{name: strings.Repeat("0", 64) + ".json", body: string(config)}), fs.ErrInvalid, "has content"},
		"bad name":             {tarOf(t, manifest(dockerEntry{Config: "c.json", Layers: []string{"l.tar"}, RepoTags: []string{"UP"}}), conf, file{name: "l.tar", body: string(layer)}), fs.ErrInvalid, "lower case"},
		"device":               {tarOf(t, manifest(entry), conf, file{name: "l.tar", typ: '3'}), fs.ErrInvalid, "l.tar"},
		"forged blob":          {tarOf(t, append(forged, file{name: "index.json", body: string(index)})...), store.ErrDigest, "content"},
		"no blob":              {tarOf(t, append(slices.Delete(slices.Clone(files), 1, 2), file{name: "index.json", body: string(index)})...), fs.ErrInvalid, "lacks blob"},
		"no manifest blob":     {tarOf(t, append(slices.Clone(files), file{name: "index.json", body: string(lostManifest)})...), fs.ErrInvalid, "lacks blob"},
		"layer is no tar":      {dockerArchive(t, []string{"x"}, bytes.Repeat([]byte("junk"), 300)), nil, ""},
		"layer's parent names": {nil, nil, ""},
	}
	delete(cases, "layer's parent names")
	for i, at := range []int{100, 511, 513, 1500, len(good) / 2, len(good) - 3000} {
		cases[fmt.Sprint("truncated ", i)] = struct {
			data []byte
			kind error
			says string
		}{good[:at], io.ErrUnexpectedEOF, "truncated"}
		cases[fmt.Sprint("truncated gzip ", i)] = struct {
			data []byte
			kind error
			says string
		}{gzipped(good)[:at*len(gzipped(good))/len(good)], io.ErrUnexpectedEOF, "truncated"}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if name == "layer is no tar" {
				needRoot(t)
			}
			s := openTest(t, nil)
			loaded, err := s.Load(t.Context(), bytes.NewReader(c.data), nil)
			if err == nil || c.kind != nil && !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v, %v; want %v and %q", loaded, err, c.kind, c.says)
			}
			if infos, _ := s.List(t.Context(), nil); len(infos) != 0 {
				t.Errorf("loaded all the same: %+v", infos)
			}
			if left := leftovers(t, s.Root()); left != nil {
				t.Errorf("left behind: %v (%v)", left, err)
			}
			if _, err := s.s.Collect(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if left := contents(t, s.Root()); left != nil {
				t.Errorf("not collected: %v", left)
			}
		})
	}
}
