//go:build linux

package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/amphora-go/amphora/image"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const busybox = "/bin/busybox" // static; the host put it here

var applets = []string{"sh", "echo", "cat", "sleep", "dd", "true", "ls", "mknod", "id", "seq", "head", "grep"}

// rootfs is a root file system as a tar.
func rootfs() ([]byte, error) {
	data, err := os.ReadFile(busybox)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, d := range []string{"bin/", "etc/", "tmp/", "proc/", "sys/", "dev/"} {
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d, Mode: 0o755})
	}
	w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755, Size: int64(len(data))})
	w.Write(data)
	for _, a := range applets {
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + a, Linkname: "busybox"})
	}
	return b.Bytes(), w.Close()
}

// importBox makes the image that all containers here use.
func importBox(g *guest) error {
	data, err := rootfs()
	if err != nil {
		return err
	}
	_, err = g.eng.Images().Import(g.ctx, bytes.NewReader(data), &image.ImportOptions{Ref: boxImage,
		Config: new(image.RunConfig), Changes: []string{"ENV PATH=/bin", `CMD ["sh"]`}})
	return err
}

// manyLayers has more layers than the 256 bytes hold that kernels before 6.5
// take through fsconfig.
const manyLayers = 20

func layers(g *guest) error {
	var b bytes.Buffer
	if err := writeLayers(&b); err != nil {
		return err
	}
	if _, err := g.eng.Images().Load(g.ctx, &b, nil); err != nil {
		return err
	}
	out, err := g.eng.Command(g.ctx, "layers", "sh", "-c", "ls /l | grep -c . && cat /top").Output()
	if err != nil {
		return explain(err)
	}
	return want("output", string(out), fmt.Sprintf("%d\n%d\n", manyLayers, manyLayers-1))
}

func writeLayers(w io.Writer) error {
	base, err := rootfs()
	if err != nil {
		return err
	}
	img := empty.Image
	add := func(data []byte) error {
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
		if err == nil {
			img, err = mutate.AppendLayers(img, l)
		}
		return err
	}
	if err := add(base); err != nil {
		return err
	}
	for i := range manyLayers {
		var b bytes.Buffer
		t := tar.NewWriter(&b)
		text := fmt.Sprintln(i)
		t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "l/", Mode: 0o755})
		for _, file := range []string{fmt.Sprintf("l/%d", i), "top"} {
			t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: file, Mode: 0o644, Size: int64(len(text))})
			io.WriteString(t, text)
		}
		t.Close()
		if err := add(b.Bytes()); err != nil {
			return err
		}
	}
	img, err = mutate.Config(img, v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"sh"}})
	if err != nil {
		return err
	}
	ref, err := name.NewTag("layers:latest")
	if err != nil {
		return err
	}
	return tarball.Write(ref, img, w)
}
