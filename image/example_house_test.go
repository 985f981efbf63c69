package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"log"
	"os"

	"github.com/amphora-go/amphora/image"
)

// What is not needed any more is counted first, and removed then.
func ExampleStore_Prune() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "amphora-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	images, err := image.Open(ctx, &image.Options{Root: dir + "/root", State: dir + "/state"})
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"app:old", "app:new"} {
		var rootfs bytes.Buffer
		w := tar.NewWriter(&rootfs)
		w.WriteHeader(&tar.Header{Name: "name", Mode: 0o644, Size: int64(len(name))})
		w.Write([]byte(name))
		w.Close()
		if _, err := images.Import(ctx, &rootfs, &image.ImportOptions{Ref: name}); err != nil {
			log.Fatal(err)
		}
	}
	unused := &image.PruneOptions{All: true, Only: image.ListOptions{References: []string{"app:o*"}}, DryRun: true}
	for range 2 {
		p, err := images.Prune(ctx, unused)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(p.Images[0].Untagged[0].Familiar(), "would go:", unused.DryRun)
		unused.DryRun = false
	}
	left, err := images.List(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("left:", left[0].Refs[0].Familiar())
	// Output:
	// app:old would go: true
	// app:old would go: false
	// left: app:new
}
