package main

import (
	"archive/tar"
	"context"
	"io"
	"os"
	"os/exec"
)

// applets of busybox that the image has.
var applets = []string{"sh", "true", "sleep", "cat", "ls", "echo"}

// makeImage writes rootfs.tar: Debian's static busybox, our spew and our
// traffic, which is all that every contender runs.
func (b *bench) makeImage(ctx context.Context) error {
	if err := os.Mkdir(b.site.path("bin"), 0o755); err != nil {
		return err
	}
	build := &tool{argv: []string{"go", "build", "-o", b.site.path("inside") + "/"}, env: []string{"CGO_ENABLED=0"}, dir: b.site.dir}
	if err := build.run(ctx, "./program/spew", "./program/traffic"); err != nil {
		return err
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	f, err := os.Create(b.site.path("rootfs.tar"))
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	for _, dir := range []string{"bin", "dev", "etc", "proc", "root", "sys", "tmp"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}); err != nil {
			return err
		}
	}
	for name, path := range map[string]string{"bin/busybox": busybox, "bin/spew": b.site.path("inside", "spew"), "bin/traffic": b.site.path("inside", "traffic")} {
		if err := addFile(w, name, path, 0o755); err != nil {
			return err
		}
	}
	for _, name := range applets {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox", Mode: 0o777}); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}

func addFile(w *tar.Writer, name, path string, mode int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: st.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}
