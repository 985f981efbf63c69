// Command build makes an image from the Dockerfile of a directory, shows how,
// and prints the image's id. No daemon is needed, only root.
//
//	go run ./examples/build DIRECTORY [NAME]
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/image/build"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt) // ends the step that runs, too
	defer stop()
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: build DIRECTORY [NAME]")
		os.Exit(2)
	}
	if err := run(ctx, os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, names []string) error {
	eng, err := amphora.Open(ctx, nil)
	if err != nil {
		return err
	}
	defer eng.Close()
	builder, err := build.New(eng.Images(), nil)
	if err != nil {
		return err
	}
	show, err := build.NewRenderer(build.ProgressAuto, os.Stderr)
	if err != nil {
		return err
	}
	// What was built before, by any process on this machine, is not built again.
	result, err := builder.Build(ctx, &build.Request{
		Context:  build.Context{Dir: dir},
		Tags:     names,
		Progress: show.Event,
	})
	show.Close(err) // with the lines of the Dockerfile that failed, if some did
	if err != nil {
		return err
	}
	fmt.Println(result.ID)
	return nil
}
