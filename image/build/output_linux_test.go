package build

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/testenv"
)

func TestPlatformsMakeAnIndex(t *testing.T) {
	y := newYard(t)
	var products []product
	for i, arch := range []string{"riscv64", "s390x"} {
		l := y.made(t, testenv.File{Name: "arch", Data: []byte(arch)})
		config := fmt.Sprintf(`{"os":"linux","architecture":%q,"history":[{"created_by":"COPY"}]}`, arch)
		products = append(products, product{platform: "linux/" + arch, config: []byte(config), layers: []string{l}})
		_ = i
	}
	dir := t.TempDir()
	var oci, docker, files bytes.Buffer
	r, err := y.exporter("multi").export(t.Context(), products, []Output{{}, {Type: OutputOCI, Writer: &oci}, {Type: OutputDocker, Writer: &docker},
		{Type: OutputTar, Writer: &files}, {Type: OutputDir, Path: dir}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Descriptor.MediaType != ocispec.MediaTypeImageIndex || len(r.Platforms) != 2 || r.ID != r.Manifest || r.Platforms[1].Platform != "linux/s390x" || r.Platforms[1].ID == "" {
		t.Errorf("result %+v", r)
	}
	if got := contents(t, &files); got["linux_s390x/arch"] != "s390x" || got["linux_riscv64/arch"] != "riscv64" {
		t.Errorf("tar has %v", got)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "linux_riscv64", "arch")); err != nil || string(data) != "riscv64" {
		t.Errorf("%q, %v", data, err)
	}
	y.lease.Close()
	if _, err := y.store.Collect(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for _, b := range []*bytes.Buffer{&oci, &docker} {
		other := newYard(t)
		loaded, err := other.images.Load(t.Context(), b, &image.LoadOptions{Platform: "linux/s390x"})
		if err != nil || loaded[0].Image.Platform() != "linux/s390x" {
			t.Fatalf("%+v, %v", loaded, err)
		}
	}
	var again bytes.Buffer
	if err := y.images.Save(t.Context(), &again, []string{"multi"}, nil); err != nil { // all platforms' layers are there
		t.Fatal(err)
	}
}

func TestArchiveAloneNamesNothing(t *testing.T) {
	y := newYard(t)
	p := product{platform: "linux/amd64", config: frontendConfig(t, nil, by("COPY")), layers: []string{y.made(t, testenv.File{Name: "f", Data: []byte("f")})}}
	path := filepath.Join(t.TempDir(), "out.tar")
	r, err := y.exporter("shop:1").export(t.Context(), []product{p}, []Output{{Type: OutputDocker, Path: path}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Image != nil || r.ID == "" || len(r.Names) > 0 {
		t.Errorf("result %+v", r)
	}
	if all, err := y.images.List(t.Context(), nil); err != nil || len(all) > 0 {
		t.Errorf("the store has %v, %v", all, err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	other := newYard(t)
	loaded, err := other.images.Load(t.Context(), f, nil)
	if err != nil || loaded[0].Image.ID() != r.ID || loaded[0].Refs[0].Familiar() != "shop:1" {
		t.Errorf("%+v, %v", loaded, err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// TestHostileTrees: what is written into a directory stays there.
func TestHostileTrees(t *testing.T) {
	y := newYard(t)
	outside := t.TempDir()
	first := y.made(t, testenv.File{Name: "way", Link: outside}, testenv.File{Name: "file", Link: filepath.Join(outside, "made")}, testenv.File{Name: "up", Link: "../../../../../../.."})
	second := y.made(t, testenv.File{Name: "way/"}, testenv.File{Name: "way/x", Data: []byte("x"), UID: 1234}, testenv.File{Name: "file", Data: []byte("y")}, testenv.File{Name: "up/"}, testenv.File{Name: "up/z", Data: []byte("z")})
	dir := filepath.Join(t.TempDir(), "new", "dir")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(dir, "mine"), nil, 0o644)
	for _, layer := range []string{first, second} {
		if _, err := y.exporter().export(t.Context(), []product{{platform: "linux/amd64", layers: []string{layer}}}, []Output{{Type: OutputDir, Path: dir}}); err != nil {
			t.Fatal(err)
		}
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("escaped: %v", left)
	}
	for name, want := range map[string]string{"way/x": "x", "file": "y", "up/z": "z", "mine": ""} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}

func TestScratch(t *testing.T) {
	y := newYard(t)
	p := product{platform: "linux/amd64", config: frontendConfig(t, nil, noLayer("CMD"))}
	var files bytes.Buffer
	r, err := y.exporter("empty").export(t.Context(), []product{p}, []Output{{}, {Type: OutputTar, Writer: &files}, {Type: OutputDir, Path: filepath.Join(t.TempDir(), "d")}})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(r.Image.Layers()); n != 0 {
		t.Errorf("%d layers", n)
	}
	if got := contents(t, &files); len(got) != 0 {
		t.Errorf("files %v", got)
	}
}
