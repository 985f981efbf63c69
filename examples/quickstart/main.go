// Command quickstart shows what amphora does, step by step: it builds an image
// from a Dockerfile, runs it under limits, talks to it and cleans up. It needs Go and root, but
// no registry, no network, no daemon and no container tool.
//
//	make demo
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/container"
	"github.com/amphora-go/amphora/image"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "\nquickstart:", err)
		os.Exit(1)
	}
}

// demo is what the steps hand on to each other.
type demo struct {
	eng     *amphora.Engine
	dir     string
	context string // of the build, in dir
	image   *image.Image
	web     *container.Container

	number int
	notes  []string // of the present step
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "amphora-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := &demo{dir: dir}

	// A Root keeps images, containers and volumes; a State what is gone after a
	// reboot. Both have defaults: amphora.Open(ctx, nil) is enough elsewhere.
	d.eng, err = amphora.Open(ctx, &amphora.Options{Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state")})
	if err != nil {
		return err
	}
	defer d.eng.Close()

	fmt.Println("\namphora, from one Go program: no daemon, no registry, no network.")
	defer d.cleanUp(context.WithoutCancel(ctx)) // also after a failure, or ctrl-c
	for _, s := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"Look whether containers can run here", d.check},
		{"Compile a small web server", d.compile},
		{"Build an image of it, from a Dockerfile", d.makeImage},
		{"Run it, with limits", d.start},
		{"Follow its log", d.followLog},
		{"Talk to it over HTTP", d.talk},
		{"Run another process inside", d.exec},
		{"Try to use too much memory", d.memoryLimit},
		{"Try to start too many threads", d.threadLimit},
		{"Try to use too much processor", d.processorLimit},
		{"Stop it", d.stop},
		{"Clean up", d.cleanUp},
	} {
		if err := d.step(ctx, s.title, s.do); err != nil {
			return err
		}
	}
	fmt.Print("\nThe code is in examples/quickstart, a screen for each step.\n\n")
	return nil
}

// step does one and prints its title, how long it took, and what it noted.
func (d *demo) step(ctx context.Context, title string, do func(context.Context) error) error {
	d.number++
	d.notes = nil
	fmt.Printf("\n%2d  %s ", d.number, title)
	begin := time.Now()
	err := do(ctx)
	fmt.Printf("%s %7s\n", strings.Repeat(".", 46-len(title)), took(time.Since(begin)))
	for _, note := range d.notes {
		fmt.Println("    " + note)
	}
	return err
}

// note adds a line below the step's title.
func (d *demo) note(name, format string, args ...any) {
	d.notes = append(d.notes, fmt.Sprintf("%-12s", name)+fmt.Sprintf(format, args...))
}

func took(t time.Duration) string {
	if t < time.Second {
		return fmt.Sprintf("%d ms", t.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", t.Seconds())
}

// check asks for what the machine lacks. Without root, for example, it says so.
func (d *demo) check(ctx context.Context) error {
	findings, err := d.eng.Check(ctx)
	if err != nil {
		return err
	}
	needed := 0
	for _, f := range findings {
		if f.Needed {
			needed++
			d.note("missing", "%s: %s", f.Name, f.Problem)
			d.note("", "%s", f.Cure)
		}
	}
	if needed > 0 {
		return fmt.Errorf("containers cannot run here yet; see what is missing above, then: sudo env PATH=$PATH make demo")
	}
	d.note("result", "yes")
	return nil
}
