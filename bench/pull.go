package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// titlePull is followed by the image's measures.
const titlePull = "pull and unpack from a registry on this machine, "

// rowPull measures pulls of an image that is not there, with no file of it in
// the page cache. Between the samples every store loses the image again.
func (b *bench) rowPull(ctx context.Context) ([]*result, error) {
	b.say("making the image to pull")
	layers, err := b.makeLayers()
	if err != nil {
		return nil, err
	}
	reg, err := b.startRegistry(ctx)
	if err != nil {
		return nil, err
	}
	const repository = "bench/large"
	if err := reg.push(ctx, repository, "latest", layers); err != nil {
		return nil, err
	}
	var packed, size int64
	for _, l := range layers {
		packed, size = packed+l.packed, size+l.size
		os.Remove(l.path)
	}
	ref := reg.host + "/" + repository + ":latest"
	w, err := b.work("pull")
	if err != nil {
		return nil, err
	}
	defer w.close()
	list := b.pulls(w, ref, reg.host, len(layers))
	title := fmt.Sprintf("%s%d layers, %d MB, %d MB compressed by gzip", titlePull, len(layers), size/1e6, packed/1e6)
	until := b.synced(list)
	r := b.compare(ctx, title, max(3, b.n/4), list)
	r.Notes = append(r.Notes, "the registry's files are dropped from the page cache before each; every store loses the image after each")
	return []*result{r, until(r)}, nil
}

// synced makes the contenders sync after each sample, and returns what gives
// the same pulls with the time until the disk had everything.
func (b *bench) synced(list []contender) func(*result) *result {
	times := make([][]float64, len(list))
	for i := range list {
		pull := list[i].do
		list[i].do = func(ctx context.Context) (time.Duration, error) {
			took, err := pull(ctx)
			begin := time.Now()
			unix.Sync()
			if err == nil {
				times[i] = append(times[i], (took+time.Since(begin)).Seconds()*1e3)
			}
			return took, err
		}
	}
	return func(r *result) *result {
		all := &result{Title: "the same, then sync", Unit: r.Unit, Load: r.Load}
		for i, s := range r.Series {
			s.Samples = times[i][min(1, len(times[i])):] // the first round does not count
			all.Series = append(all.Series, s)
		}
		return all
	}
}

// chill drops the registry's files from the page cache.
func (b *bench) chill(context.Context) error {
	unix.Sync()
	return filepath.WalkDir(b.site.path("registry"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
}

func (b *bench) pulls(w *worker, ref, host string, layers int) []contender {
	list := []contender{b.newStore(contender{name: nameLibrary, kind: api}, layers, func(ctx context.Context, root, state string) (time.Duration, error) {
		took, _, err := w.ask(ctx, root+" "+state+" "+ref)
		return took, err
	})}
	if b.amphora.cli != nil {
		list = append(list, b.newStore(contender{name: nameCLI, kind: command}, layers, func(ctx context.Context, root, state string) (time.Duration, error) {
			t := &tool{argv: []string{b.site.path("bin", "amphora"), "-root", root, "-state", state, "-insecure", host}, dir: b.site.dir}
			return timed(func(ctx context.Context) error { return t.run(ctx, "pull", ref) })(ctx)
		}))
	}
	if d := b.docker; d != nil {
		remove := func(ctx context.Context) error { return d.cli.run(ctx, "rmi", ref) }
		name, tag := ref[:strings.LastIndex(ref, ":")], ref[strings.LastIndex(ref, ":")+1:]
		c := b.command("docker pull", d.cli, "pull", "-q", ref)
		c.before, c.after = b.chill, remove
		list = append(list, contender{name: "docker API", kind: api, before: b.chill, after: remove, do: timed(func(ctx context.Context) error {
			return d.client.pull(ctx, name, tag)
		})}, c)
	}
	if p := b.podman; p != nil {
		c := b.command("podman pull", p.cli, "pull", "-q", "--tls-verify=false", ref)
		c.before, c.after = b.chill, func(ctx context.Context) error { return p.cli.run(ctx, "rmi", ref) }
		list = append(list, c)
	}
	return list
}

// newStore makes a contender that works on a store of its own for each sample,
// and checks that all layers were unpacked.
func (b *bench) newStore(c contender, layers int, do func(ctx context.Context, root, state string) (time.Duration, error)) contender {
	dir := b.site.path("pull-" + c.kind)
	root, state := filepath.Join(dir, "root"), filepath.Join(dir, "state")
	c.before = b.chill
	c.do = func(ctx context.Context) (time.Duration, error) { return do(ctx, root, state) }
	c.after = func(context.Context) error {
		unpacked, err := filepath.Glob(filepath.Join(root, "layers", "*", "diff"))
		if err == nil && len(unpacked) != layers {
			err = fmt.Errorf("%d layers unpacked instead of %d", len(unpacked), layers)
		}
		return errors.Join(err, os.RemoveAll(dir))
	}
	c.undo = func(context.Context) { os.RemoveAll(dir) }
	return c
}

// goRoot is where Go's own files are.
func goRoot() string {
	return firstLine(context.Background(), "go", "env", "GOROOT")
}
