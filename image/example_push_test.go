package image_test

import (
	"context"
	"fmt"
	"log"

	"github.com/amphora-go/amphora/image"
)

// An image goes from one registry to another, with its digest.
func ExampleStore_Push() {
	ctx := context.Background()
	images, err := image.Open(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := images.Pull(ctx, "alpine:3.22", nil); err != nil {
		log.Fatal(err)
	}
	if err := images.Tag(ctx, "alpine:3.22", "registry.example/base/alpine:3.22"); err != nil {
		log.Fatal(err)
	}
	pushed, err := images.Push(ctx, "registry.example/base/alpine:3.22", nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range pushed {
		fmt.Println(p.Ref, p.Digest)
	}
}
