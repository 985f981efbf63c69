package main

import (
	"archive/tar"
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/amphora-go/amphora/image"
)

//go:embed server/main.go
var source []byte

// compile builds the server. It is static: the image needs nothing else.
func (d *demo) compile(ctx context.Context) error {
	file := filepath.Join(d.dir, "main.go")
	if err := os.WriteFile(file, source, 0o644); err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", "server", file)
	build.Dir = d.dir
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	d.note("source", "server/main.go, embedded in this program")
	return nil
}

// makeImage packs a root filesystem, one file in all, and imports it.
func (d *demo) makeImage(ctx context.Context) error {
	server, err := os.ReadFile(filepath.Join(d.dir, "server"))
	if err != nil {
		return err
	}
	var rootfs bytes.Buffer
	w := tar.NewWriter(&rootfs)
	if err := w.WriteHeader(&tar.Header{Name: "server", Mode: 0o755, Size: int64(len(server))}); err != nil {
		return err
	}
	if _, err := w.Write(server); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}

	d.image, err = d.eng.Images().Import(ctx, &rootfs, &image.ImportOptions{
		Ref:     "hello:latest",
		Changes: []string{`ENTRYPOINT ["/server"]`, `CMD ["serve"]`, "USER 1000"},
	})
	if err != nil {
		return err
	}
	info, err := d.image.Info(ctx)
	if err != nil {
		return err
	}
	d.note("name", "%s", d.image.Ref().Familiar())
	d.note("id", "%.19s", d.image.ID())
	d.note("size", "%.1f MB", float64(info.Size)/1e6)
	return nil
}
