package build

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/archive"
	"github.com/amphora-go/amphora/internal/build/cache"
	"github.com/amphora-go/amphora/internal/journal"
	"github.com/amphora-go/amphora/internal/store"
	"github.com/amphora-go/amphora/internal/testenv"
)

// yard is a store in which layers are made as builds make them.
type yard struct {
	images *image.Store
	store  *store.Store
	lease  *store.Lease
}

func openYard(dir string) (*yard, error) {
	s := store.Open(filepath.Join(dir, "root"), filepath.Join(dir, "state"), journal.Open(filepath.Join(dir, "root", "journal")))
	l, err := s.Lease(context.Background())
	return &yard{image.New(s, nil), s, l}, err
}

func newYard(t testing.TB) *yard {
	t.Helper()
	testenv.Root(t)
	y, err := openYard(testenv.Dir(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		y.lease.Close()
		y.store.Wait()
	})
	return y
}

// layer makes a layer of an archive with overlay's whiteouts.
func (y *yard) layer(plain []byte) (string, error) {
	l, err := cache.Open(y.store).NewLayer(y.lease)
	if err != nil {
		return "", err
	}
	if err := os.Mkdir(l.Upper, 0o755); err != nil {
		return "", err
	}
	if _, err := archive.Apply(context.Background(), l.Upper, bytes.NewReader(plain), nil); err != nil {
		return "", err
	}
	name, _, err := l.Publish(context.Background(), y.lease)
	return name, err
}

func (y *yard) made(t testing.TB, files ...testenv.File) string {
	t.Helper()
	name, err := y.layer(testenv.Tar(t, files))
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// base loads an image and leases it as a build does.
func (y *yard) base(t testing.TB, i testenv.Image) *image.Image {
	t.Helper()
	loaded, err := y.images.Load(t.Context(), bytes.NewReader(testenv.OCILayout(t, i)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := y.lease.AddLayers(t.Context(), loaded[0].Image.Layers()...); err != nil {
		t.Fatal(err)
	}
	return loaded[0].Image
}

func (y *yard) exporter(names ...string) *exporter {
	return &exporter{images: y.images, store: y.store, lease: y.lease, names: names}
}

// frontendConfig is what the frontend gives: the base's history, and that of
// new instructions, without times and layers.
func frontendConfig(t testing.TB, base *image.Image, instructions ...ocispec.History) []byte {
	t.Helper()
	c := map[string]any{"os": "linux", "architecture": runtime.GOARCH, "config": map[string]any{"Cmd": []string{"sh"}, "ArgsEscaped": true}, "x-kept": 1}
	var history []ocispec.History
	if base != nil {
		history = append(history, base.Config().History...)
		c["rootfs"] = base.Config().RootFS
	}
	c["history"] = append(history, instructions...)
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// childExport makes an image in the directory.
func childExport(args []string) int {
	y, err := openYard(args[0])
	var plain []byte
	if err == nil {
		plain, err = os.ReadFile(args[1])
	}
	if err == nil {
		var layer string
		if layer, err = y.layer(plain); err == nil {
			at := epoch
			config := []byte(`{"os":"linux","architecture":"amd64","history":[{"created_by":"COPY"},{"created_by":"COPY"}]}`)
			p := product{platform: "linux/amd64", config: config, layers: []string{layer, layer}, epoch: &at}
			_, err = y.exporter("a", "b").export(context.Background(), []product{p}, nil)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	y.lease.Close()
	y.store.Wait()
	return 0
}

func by(what string) ocispec.History {
	return ocispec.History{CreatedBy: what, Comment: "buildkit.dockerfile.v0"}
}

func noLayer(what string) ocispec.History {
	h := by(what)
	h.EmptyLayer = true
	return h
}

var epoch = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
