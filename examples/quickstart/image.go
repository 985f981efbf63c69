package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/amphora-go/amphora/image/build"
)

//go:embed server/main.go
var source []byte

//go:embed server/Dockerfile
var dockerfile []byte

// compile builds the server. It is static: the image needs nothing else.
func (d *demo) compile(ctx context.Context) error {
	d.context = filepath.Join(d.dir, "context")
	if err := os.Mkdir(d.context, 0o755); err != nil {
		return err
	}
	for name, content := range map[string][]byte{"main.go": source, "Dockerfile": dockerfile} {
		if err := os.WriteFile(filepath.Join(d.context, name), content, 0o644); err != nil {
			return err
		}
	}
	build := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", "server", "main.go")
	build.Dir = d.context
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	d.note("source", "server/main.go, embedded in this program")
	return nil
}

// makeImage builds the image from its Dockerfile, in this process. It begins
// with nothing (FROM scratch), so no registry is asked.
func (d *demo) makeImage(ctx context.Context) error {
	builder, err := build.New(d.eng.Images(), nil)
	if err != nil {
		return err
	}
	result, err := builder.Build(ctx, &build.Request{
		Context: build.Context{Dir: d.context},
		Tags:    []string{"hello"},
		Progress: func(e build.Event) {
			if e.Kind == build.StepDone && !e.Step.Internal {
				d.note("step", "%s", e.Step.Name)
			}
		},
	})
	if err != nil {
		return err
	}
	d.image = result.Image
	info, err := d.image.Info(ctx)
	if err != nil {
		return err
	}
	d.note("name", "%s", d.image.Ref().Familiar())
	d.note("id", "%.19s", d.image.ID())
	d.note("size", "%.1f MB", float64(info.Size)/1e6)
	return nil
}
