package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// bench is one run.
type bench struct {
	n     int
	quick bool
	peers []string
	rows  []string

	site    *site
	known   map[int]bool // children that somebody waits for
	report  *report
	amphora *amphora
	docker  *docker // nil: not there
	podman  *podman
	runc    *runc

	networks *networks    // made when a row needs it
	moved    *sampleImage // alike
}

// row is a part of the benchmark that can be chosen by -rows.
type row struct {
	name string
	run  func(b *bench, ctx context.Context) ([]*result, error)
}

var rows = []row{
	{"run", (*bench).rowRun}, {"exec", (*bench).rowExec}, {"parallel", (*bench).rowParallel}, {"pull", (*bench).rowPull},
	{"zstd", (*bench).rowZstd}, {"push", (*bench).rowPush}, {"save", (*bench).rowSave}, {"resume", (*bench).rowResume},
	{"logs", (*bench).rowLogs}, {"memory", (*bench).rowMemory}, {"list", (*bench).rowList},
	{"connect", (*bench).rowConnect}, {"bridge", (*bench).rowBridge}, {"attach", (*bench).rowAttach}, {"scale", (*bench).rowScale},
	{"throughput", (*bench).rowThroughput}, {"names", (*bench).rowNames},
	{"build", (*bench).rowBuild},
}

func init() {
	// The daemon's parent-death signal is the death of the thread that made
	// it: the main goroutine, which starts it, keeps the main thread.
	runtime.LockOSThread()
}

func main() {
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = r.name
	}
	b := &bench{known: map[int]bool{}, report: &report{Begun: time.Now(), Command: append([]string{"bench"}, os.Args[1:]...)}}
	wanted := flag.String("rows", strings.Join(names, ","), "what to measure")
	peers := flag.String("peers", "docker,podman,runc", "what to compare with")
	dir := flag.String("dir", "/var/tmp", "`directory` for everything that is made; on a disk, not on tmpfs")
	bare := flag.Bool("bare", false, "work in the directory itself, not on a new file system in a file")
	doc := flag.String("doc", "", "`file` to write the table to as well, as markdown")
	flag.IntVar(&b.n, "n", 20, "runs of each")
	flag.BoolVar(&b.quick, "quick", false, "3 runs and small sizes: does it work?")
	flag.Parse()
	if b.quick {
		b.n = 3
	}
	b.rows, b.peers = strings.Split(*wanted, ","), strings.Split(*peers, ",")
	for _, name := range b.rows {
		if !slices.Contains(names, name) {
			fmt.Fprintf(os.Stderr, "bench: no row %q; there are %s\n", name, strings.Join(names, ","))
			os.Exit(2)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.main(ctx, *dir, *bare, *doc); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) main(ctx context.Context, dir string, bare bool, doc string) (err error) {
	if os.Getuid() != 0 {
		return fmt.Errorf("containers need root: run it with sudo")
	}
	b.site, err = newSite(ctx, dir, bare)
	defer func() {
		if b.site == nil {
			return
		}
		b.say("cleaning up")
		if cerr := b.site.clean(); cerr != nil && err == nil {
			err = cerr
		}
	}()
	if err != nil {
		return fmt.Errorf("%w (-bare works without a file system of its own)", err)
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	failed := false
	for _, row := range rows {
		if ctx.Err() != nil || !slices.Contains(b.rows, row.name) {
			continue
		}
		results, err := row.run(b, ctx)
		if err != nil {
			b.note("row %s failed: %v", row.name, err)
			failed = true
		}
		for _, r := range results {
			fmt.Fprintln(os.Stderr, "\n"+r.text())
		}
		b.report.Results = append(b.report.Results, results...)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r := b.report
	r.Machine.LoadEnd, r.Goals, r.Took = loadAverage(), judge(r.Results), time.Since(r.Begun).Round(time.Second).String()
	fmt.Print("\n", strings.Repeat("=", 100), "\n", r.text())
	path, err := r.save()
	if err != nil {
		return err
	}
	fmt.Println("samples in", path)
	if failed {
		return fmt.Errorf("some rows failed")
	}
	if doc != "" {
		return r.document(doc)
	}
	return nil
}

// prepare makes the image and brings up the contenders. A peer that cannot be
// had is left out.
func (b *bench) prepare(ctx context.Context) error {
	b.install(ctx)
	b.report.Machine = look(ctx, b.site)
	b.say("building")
	if err := b.makeImage(ctx); err != nil {
		return err
	}
	var err error
	if b.amphora, err = b.startAmphora(ctx); err != nil {
		return err
	}
	if b.has("docker", "dockerd") {
		if b.docker, err = b.startDocker(ctx); err != nil {
			b.docker = nil
			b.note("docker is left out: %v", err)
		}
	}
	if b.has("podman", "podman") {
		if b.podman, err = b.startPodman(ctx); err != nil {
			b.podman = nil
			b.note("podman is left out: %v", err)
		}
	}
	if b.has("runc", "runc") {
		if b.runc, err = b.startRunc(ctx); err != nil {
			b.runc = nil
			b.note("runc is left out: %v", err)
		}
	}
	return ctx.Err()
}

func (b *bench) wants(peer string) bool { return slices.Contains(b.peers, peer) }

func (b *bench) has(peer, program string) bool {
	if !b.wants(peer) {
		return false
	}
	if _, err := exec.LookPath(program); err != nil {
		b.note("%s is left out: %v", peer, err)
		return false
	}
	return true
}

// say tells who waits what is going on.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%7.1fs  %s\n", time.Since(b.report.Begun).Seconds(), fmt.Sprintf(format, args...))
}

// note is what must stand beside the figures.
func (b *bench) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	b.say("%s", text)
	b.report.Notes = append(b.report.Notes, text)
}
