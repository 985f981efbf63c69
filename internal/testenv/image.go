package testenv

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image describes an image to be made. It is plain data; the same Image always
// gives the same digests.
type Image struct {
	Ref      string // "example.com/app:1"; in registries only the tag of Push counts
	Layers   [][]File
	Raw      [][]byte // layers given as uncompressed tars, above Layers: for hostile ones
	Config   v1.ImageConfig
	Platform string // "linux/amd64", "linux/arm/v7"; default the host's architecture
	Compress string // of layers in layouts and registries: "gzip" (default), "zstd", "none"
	Docker   bool   // Docker's media types instead of OCI's
	History  []v1.History
}

// BaseImage is the test image: one layer of BaseFiles, PATH and sh.
func BaseImage(t testing.TB, ref string) Image {
	t.Helper()
	return Image{
		Ref: ref, Layers: [][]File{BaseFiles(t)},
		Config:  v1.ImageConfig{Env: []string{"PATH=/usr/sbin:/bin"}, Cmd: []string{"sh"}, WorkingDir: "/"},
		History: []v1.History{{Created: &Epoch, CreatedBy: "ADD rootfs.tar /"}},
	}
}

// LayeredImage is BaseImage under three more layers that have what makes
// unpacking hard, and a configuration that sets everything. The merged view:
//
//	/etc/motd        gone (whiteout)
//	/opt/app         only "new" (opaque); mode 0750, alice's
//	/tmp/x           and /tmp still 1777: the layer has no entry for tmp/
//	/bin/extra       written as usr/bin/extra, through the symbolic link
//	/data/hard       a hard link to /data/first of the layer below
//	/data/fifo       a fifo;  /data/sparse  1 MiB of zeros
func LayeredImage(t testing.TB, ref string) Image {
	t.Helper()
	i := BaseImage(t, ref)
	i.Layers = append(i.Layers,
		[]File{
			{Name: "etc/motd", Data: []byte("hello\n")},
			{Name: "opt/"}, {Name: "opt/app/"}, {Name: "opt/app/old", Data: []byte("old\n")},
			{Name: "data/first", Data: []byte("first\n"), UID: 1000, GID: 1000, Mode: 0o640},
		},
		[]File{
			{Name: "etc/.wh.motd"},
			{Name: "opt/app/", Mode: 0o750, UID: 1000, GID: 1000}, {Name: "opt/app/.wh..wh..opq"}, {Name: "opt/app/new", Data: []byte("new\n")},
			{Name: "tmp/x", Data: []byte("x\n")},
		},
		[]File{
			{Name: "usr/bin/extra", Data: []byte("#!/bin/sh\necho extra\n"), Mode: 0o755},
			{Name: "data/hard", Type: tar.TypeLink, Link: "data/first"},
			{Name: "data/fifo", Type: tar.TypeFifo},
			{Name: "data/sparse", Data: make([]byte, 1<<20)},
		})
	i.Config = v1.ImageConfig{
		User: "alice", WorkingDir: "/data", StopSignal: "SIGUSR1",
		Env:        []string{"PATH=/bin", "FROM_IMAGE=yes"},
		Entrypoint: []string{"sh", "-c"}, Cmd: []string{"echo from the image"},
		Volumes: map[string]struct{}{"/data": {}}, ExposedPorts: map[string]struct{}{"8080/tcp": {}},
		Labels: map[string]string{"org.example.made": "by testenv"},
	}
	for n, what := range []string{"COPY . /", "RUN clean", "RUN link"} {
		i.History = append(i.History, v1.History{Created: &Epoch, CreatedBy: what, Comment: fmt.Sprint("layer ", n+2)})
	}
	i.History = append(i.History, v1.History{Created: &Epoch, CreatedBy: "USER alice", EmptyLayer: true})
	return i
}

// blob is content with its address.
type blob struct {
	v1.Descriptor
	data []byte
}

func newBlob(mediaType string, data []byte) blob {
	return blob{v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}, data}
}

// Built is an Image turned into blobs.
type Built struct {
	ID       digest.Digest   // of the configuration: Docker's image id
	Manifest digest.Digest   // of the manifest
	DiffIDs  []digest.Digest // of the uncompressed layers, the lowest first

	ref      string
	platform v1.Platform
	config   blob
	manifest blob
	layers   []blob   // as Compress says
	plain    [][]byte // uncompressed
}

// Build makes the blobs of an image.
func (i Image) Build(t testing.TB) *Built {
	t.Helper()
	b := &Built{ref: i.Ref, platform: parsePlatform(i.Platform)}
	for _, files := range i.Layers {
		b.plain = append(b.plain, Tar(t, files))
	}
	b.plain = append(b.plain, i.Raw...)
	for _, plain := range b.plain {
		b.DiffIDs = append(b.DiffIDs, digest.FromBytes(plain))
		b.layers = append(b.layers, i.layer(t, plain))
	}
	b.config = newBlob(i.mediaType(v1.MediaTypeImageConfig), mustJSON(t, v1.Image{
		Created: &Epoch, Platform: b.platform, Config: i.Config, History: i.History,
		RootFS: v1.RootFS{Type: "layers", DiffIDs: b.DiffIDs},
	}))
	m := v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: i.mediaType(v1.MediaTypeImageManifest), Config: b.config.Descriptor,
	}
	for _, l := range b.layers {
		m.Layers = append(m.Layers, l.Descriptor)
	}
	b.manifest = newBlob(m.MediaType, mustJSON(t, m))
	b.ID, b.Manifest = b.config.Digest, b.manifest.Digest
	return b
}

func (i Image) layer(t testing.TB, plain []byte) blob {
	t.Helper()
	switch i.Compress {
	case "none":
		return newBlob(i.mediaType(v1.MediaTypeImageLayer), plain)
	case "zstd":
		w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		return newBlob(v1.MediaTypeImageLayerZstd, w.EncodeAll(plain, nil))
	case "", "gzip":
		var b bytes.Buffer
		w, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
		w.Write(plain)
		w.Close()
		return newBlob(i.mediaType(v1.MediaTypeImageLayerGzip), b.Bytes())
	}
	t.Fatalf("testenv: unknown compression %q", i.Compress)
	return blob{}
}

// mediaType turns OCI's name into Docker's for a Docker image.
func (i Image) mediaType(oci string) string {
	if !i.Docker {
		return oci
	}
	return map[string]string{
		v1.MediaTypeImageConfig:    "application/vnd.docker.container.image.v1+json",
		v1.MediaTypeImageManifest:  "application/vnd.docker.distribution.manifest.v2+json",
		v1.MediaTypeImageLayer:     "application/vnd.docker.image.rootfs.diff.tar",
		v1.MediaTypeImageLayerGzip: "application/vnd.docker.image.rootfs.diff.tar.gzip",
	}[oci]
}

func parsePlatform(s string) v1.Platform {
	p := v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	if parts := strings.Split(s, "/"); len(parts) > 1 {
		p.OS, p.Architecture = parts[0], parts[1]
		if len(parts) > 2 {
			p.Variant = parts[2]
		}
	}
	return p
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
