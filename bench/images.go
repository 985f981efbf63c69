package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

const (
	titlePush = "push to an empty registry on this machine, "
	titleSave = "save to a file, "
	titleLoad = "load from a file and unpack, "
	titleZstd = "pull and unpack, layers compressed by zstd, "
)

// sampleImage is the large image in every store, and in a registry.
type sampleImage struct {
	reg         *registry
	ref         string
	about       string // its measures
	layers      int
	root, state string // of ours that has it
	w           *worker
	cli         *tool // ours, on that store
}

// sampleImage makes the image of the row pull and has every contender pull it.
func (b *bench) sampleImage(ctx context.Context) (*sampleImage, error) {
	if b.moved != nil {
		return b.moved, nil
	}
	b.say("making the image to move")
	layers, err := b.makeLayers()
	if err != nil {
		return nil, err
	}
	s := &sampleImage{layers: len(layers), root: b.site.path("moved", "root"), state: b.site.state("moved")}
	if s.reg, err = b.startRegistry(ctx); err != nil {
		return nil, err
	}
	if err := s.reg.push(ctx, "bench/moved", "latest", layers); err != nil {
		return nil, err
	}
	var packed, size int64
	for _, l := range layers {
		packed, size = packed+l.packed, size+l.size
		os.Remove(l.path)
	}
	s.about = fmt.Sprintf("%d layers, %d MB, %d MB compressed by gzip", len(layers), size/1e6, packed/1e6)
	s.ref = s.reg.host + "/bench/moved:latest"
	if s.w, err = b.work("images"); err != nil {
		return nil, err
	}
	if _, _, err := s.w.ask(ctx, strings.Join([]string{"pull", s.root, s.state, s.ref}, " ")); err != nil {
		return nil, err
	}
	if b.amphora.cli != nil {
		s.cli = &tool{argv: []string{b.site.path("bin", "amphora"), "-root", s.root, "-state", s.state, "-insecure", s.reg.host}, dir: b.site.dir}
	}
	if b.docker != nil {
		if err := b.docker.cli.run(ctx, "pull", "-q", s.ref); err != nil {
			return nil, err
		}
	}
	b.moved = s
	return s, nil
}

// ask makes a contender of an order to our program.
func (s *sampleImage) ask(words ...string) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) {
		took, _, err := s.w.ask(ctx, strings.Join(words, " "))
		return took, err
	}
}

// rowPush measures pushes to a registry that has nothing of the image.
func (b *bench) rowPush(ctx context.Context) ([]*result, error) {
	s, err := b.sampleImage(ctx)
	if err != nil {
		return nil, err
	}
	// A registry that has forgotten all: it keeps no cache of what it had.
	empty := func(ctx context.Context) error {
		return errors.Join(os.RemoveAll(b.site.path("registry-push", "docker")), os.MkdirAll(b.site.path("registry-push"), 0o755))
	}
	to, err := b.startRegistryIn(ctx, "registry-push", false)
	if err != nil {
		return nil, err
	}
	target := to.host + "/bench/pushed:latest"
	if s.cli == nil {
		return nil, errors.New("examples/amphora is needed to give names")
	}
	if err := s.cli.run(ctx, "tag", s.ref, target); err != nil {
		return nil, err
	}
	t := &tool{argv: append(s.cli.argv[:len(s.cli.argv):len(s.cli.argv)], "-insecure", to.host), dir: b.site.dir}
	list := []contender{
		{name: nameLibrary, kind: api, before: empty, do: s.ask("push", s.root, s.state, target)},
		{name: nameCLI, kind: command, before: empty, do: timed(func(ctx context.Context) error { return t.run(ctx, "push", "-q", target) })},
	}
	if d := b.docker; d != nil {
		if err := d.cli.run(ctx, "tag", s.ref, target); err != nil {
			return nil, err
		}
		name := target[:strings.LastIndex(target, ":")]
		c := b.command("docker push", d.cli, "push", "-q", target)
		c.before = empty
		list = append(list, contender{name: "docker API", kind: api, before: empty, do: timed(func(ctx context.Context) error {
			return d.client.stream(ctx, http.MethodPost, "/images/"+name+"/push?tag=latest", nil, nil)
		})}, c)
	}
	r := b.compare(ctx, titlePush+s.about, max(3, b.n/4), list)
	if d := b.docker; d != nil { // its layers must go with its other name
		return []*result{r}, d.cli.run(ctx, "rmi", target)
	}
	return []*result{r}, nil
}

// rowSave measures save and load. What is loaded is not there before.
func (b *bench) rowSave(ctx context.Context) ([]*result, error) {
	s, err := b.sampleImage(ctx)
	if err != nil {
		return nil, err
	}
	file := func(name string) string { return b.site.path("saved-" + name + ".tar") }
	gone := func(name string) func(context.Context) error {
		return func(context.Context) error { return os.Remove(file(name)) }
	}
	list := []contender{{name: nameLibrary, kind: api, after: gone("library"), do: s.ask("save", s.root, s.state, s.ref, file("library"))}}
	if s.cli != nil {
		c := b.command(nameCLI, s.cli, "save", "-o", file("cli"), s.ref)
		c.after = gone("cli")
		list = append(list, c)
	}
	if d := b.docker; d != nil {
		c := b.command("docker save", d.cli, "save", "-o", file("docker"), s.ref)
		c.after = gone("docker")
		list = append(list, contender{name: "docker API", kind: api, after: gone("docker-api"), do: timed(func(ctx context.Context) error {
			f, err := os.Create(file("docker-api"))
			if err != nil {
				return err
			}
			return errors.Join(d.client.stream(ctx, http.MethodGet, "/images/get?names="+url.QueryEscape(s.ref), nil, f), f.Close())
		})}, c)
	}
	saved := b.compare(ctx, titleSave+s.about, max(3, b.n/4), list)
	loaded, err := b.loads(ctx, s)
	return []*result{saved, loaded}, err
}

// loads compares loading one archive, ours, which docker reads as well.
func (b *bench) loads(ctx context.Context, s *sampleImage) (*result, error) {
	archive := b.site.path("archive.tar")
	if _, err := s.ask("save", s.root, s.state, s.ref, archive)(ctx); err != nil {
		return nil, err
	}
	defer os.Remove(archive)
	list := []contender{b.newStore(contender{name: nameLibrary, kind: api}, s.layers, func(ctx context.Context, root, state string) (time.Duration, error) {
		return s.ask("load", root, state, archive)(ctx)
	})}
	if s.cli != nil {
		list = append(list, b.newStore(contender{name: nameCLI, kind: command}, s.layers, func(ctx context.Context, root, state string) (time.Duration, error) {
			t := &tool{argv: []string{b.site.path("bin", "amphora"), "-root", root, "-state", state}, dir: b.site.dir}
			return timed(func(ctx context.Context) error { return t.run(ctx, "load", "-q", "-i", archive) })(ctx)
		}))
	}
	if d := b.docker; d != nil {
		remove := func(ctx context.Context) error {
			d.cli.run(ctx, "rmi", s.ref) // after a failure it is not there
			return nil
		}
		c := b.command("docker load", d.cli, "load", "-q", "-i", archive)
		c.before, c.after = remove, remove
		list = append(list, contender{name: "docker API", kind: api, before: remove, after: remove, do: timed(func(ctx context.Context) error {
			f, err := os.Open(archive)
			if err != nil {
				return err
			}
			defer f.Close()
			return d.client.stream(ctx, http.MethodPost, "/images/load?quiet=1", f, nil)
		})}, c)
	}
	return b.compare(ctx, titleLoad+s.about, max(3, b.n/4), list), nil
}

// rowZstd is rowPull for the same image in another compression.
func (b *bench) rowZstd(ctx context.Context) ([]*result, error) {
	s, err := b.sampleImage(ctx)
	if err != nil {
		return nil, err
	}
	ref := s.reg.host + "/bench/zstd:latest"
	if s.cli == nil {
		return nil, errors.New("examples/amphora is needed to give names")
	}
	if err := s.cli.run(ctx, "tag", s.ref, ref); err != nil {
		return nil, err
	}
	if _, err := s.ask("push", s.root, s.state, ref, "zstd")(ctx); err != nil {
		return nil, err
	}
	w, err := b.work("pull")
	if err != nil {
		return nil, err
	}
	defer w.close()
	if d := b.docker; d != nil { // it has the same layers by another name
		if err := d.cli.run(ctx, "rmi", s.ref); err != nil {
			return nil, err
		}
		defer d.cli.run(ctx, "pull", "-q", s.ref)
	}
	return []*result{b.compare(ctx, titleZstd+s.about, max(3, b.n/4), b.pulls(w, ref, s.reg.host, s.layers))}, nil
}

// stream sends a body and reads the answer to its end, into out if not nil.
func (c *dockerClient) stream(ctx context.Context, method, path string, in io.Reader, out io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, in)
	if err != nil {
		return err
	}
	req.Header.Set("X-Registry-Auth", "e30=") // {}: no credentials
	if in != nil {
		req.Header.Set("Content-Type", "application/x-tar")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("docker: %s %s: %s: %s", method, path, resp.Status, tail(text))
	}
	if out != nil {
		_, err = io.Copy(out, resp.Body)
		return err
	}
	text, err := io.ReadAll(resp.Body)
	if err == nil && strings.Contains(string(text), `"errorDetail"`) {
		err = fmt.Errorf("docker: %s %s: %s", method, path, tail(text))
	}
	return err
}
