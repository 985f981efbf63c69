package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/amphora-go/amphora/image"
)

// A store is served at a port, here httptest's. A client pulls an image of it
// and pushes it back under another name, which is an image of the store at once.
func ExampleServe() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "served")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	open := func(name string) *image.Store {
		s, err := image.Open(ctx, &image.Options{Root: dir + "/" + name, State: dir + "/" + name + "-state"})
		if err != nil {
			log.Fatal(err)
		}
		return s
	}
	images := open("registry")
	var rootfs bytes.Buffer
	w := tar.NewWriter(&rootfs)
	w.WriteHeader(&tar.Header{Name: "hello", Mode: 0o755, Size: 17})
	w.Write([]byte("#!/bin/sh\necho hi"))
	w.Close()
	if _, err := images.Import(ctx, &rootfs, &image.ImportOptions{Ref: "registry.example/team/hello:1"}); err != nil {
		log.Fatal(err)
	}

	server := httptest.NewServer(image.Serve(images, &image.ServeOptions{
		Host: "registry.example",
		Allow: func(_ *http.Request, a image.Access) bool {
			return a.Action == "pull" || strings.HasPrefix(a.Repository, "team/")
		},
	}))
	defer server.Close()

	client, host := open("client"), strings.TrimPrefix(server.URL, "http://")
	if _, err := client.Pull(ctx, host+"/team/hello:1", &image.PullOptions{Packed: true}); err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"/team/again:2", "/other/hello:1"} {
		if err := client.Tag(ctx, host+"/team/hello:1", host+name); err != nil {
			log.Fatal(err)
		}
		_, err := client.Push(ctx, host+name, nil)
		fmt.Println(name, errors.Is(err, fs.ErrPermission))
	}
	list, err := images.List(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, ref := range list[0].Refs {
		fmt.Println(ref)
	}
	// Output:
	// /team/again:2 false
	// /other/hello:1 true
	// registry.example/team/again:2
	// registry.example/team/hello:1
}
