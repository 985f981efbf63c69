package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/amphora-go/amphora/image"
)

// A root filesystem becomes an image, which is then named, listed and removed.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "images")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	images, err := image.Open(ctx, &image.Options{Root: dir + "/root", State: dir + "/state"})
	if err != nil {
		log.Fatal(err)
	}

	var rootfs bytes.Buffer
	w := tar.NewWriter(&rootfs)
	w.WriteHeader(&tar.Header{Name: "hello", Mode: 0o755, Size: 17})
	w.Write([]byte("#!/bin/sh\necho hi"))
	w.Close()

	img, err := images.Import(ctx, &rootfs, &image.ImportOptions{
		Ref: "hello:v1", Platform: "linux/amd64",
		Created: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC),
		Comment: "made in memory",
		Changes: []string{`CMD ["/hello"]`, "ENV GREETING=hi"},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(img.Config().Config.Cmd, img.Config().Config.Env)

	if err := images.Tag(ctx, "hello:v1", "registry.example/team/hello"); err != nil {
		log.Fatal(err)
	}
	list, err := images.List(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, i := range list {
		fmt.Println(i.Refs[0].Familiar(), i.Refs[1].Familiar(), i.Platform, i.Created.Format(time.DateOnly))
	}
	for _, step := range img.History() {
		fmt.Println(step.CreatedBy, "-", step.Comment)
	}
	if _, err := images.Remove(ctx, "hello:v1", nil); err != nil {
		log.Fatal(err)
	}
	_, err = images.Get(ctx, "hello:v1")
	fmt.Println(err)
	// Output:
	// [/hello] [GREETING=hi]
	// hello:v1 registry.example/team/hello:latest linux/amd64 2026-01-02
	// import - made in memory
	// image get hello:v1: no such image; pull, load or import it first
}
