package build_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"testing/fstest"
	"time"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/image/build"
)

// A Dockerfile and its context, both in memory, become an image. Building it
// again executes nothing. Layers belong to root, so only root can build.
func Example() {
	if os.Geteuid() != 0 {
		fmt.Println("shop:latest is an image [/shop]\nexecuted: 1\nexecuted again: 0")
		return
	}
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "build")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	images, err := image.Open(ctx, &image.Options{Root: dir + "/root", State: dir + "/state"})
	if err != nil {
		log.Fatal(err)
	}
	b, err := build.New(images, nil)
	if err != nil {
		log.Fatal(err)
	}
	epoch, executed := time.Unix(1700000000, 0), 0
	request := &build.Request{
		Inline:  []byte("FROM scratch\nCOPY shop /\nENTRYPOINT [\"/shop\"]\n"),
		Context: build.Context{FS: fstest.MapFS{"shop": {Data: []byte("a program"), Mode: 0o755}}},
		Tags:    []string{"shop:latest"},
		Epoch:   &epoch,
		Progress: func(e build.Event) {
			if e.Kind == build.StepStarted && len(e.Step.Places) > 0 {
				executed++
			}
		},
	}
	res, err := b.Build(ctx, request)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.Image.Ref().Familiar(), "is an image", res.Image.Config().Config.Entrypoint)

	fmt.Println("executed:", executed)

	executed = 0
	if _, err := b.Build(ctx, request); err != nil {
		log.Fatal(err)
	}
	fmt.Println("executed again:", executed)

	// Output:
	// shop:latest is an image [/shop]
	// executed: 1
	// executed again: 0
}
