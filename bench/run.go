package main

import (
	"context"
	"strconv"
)

const (
	titleRun      = "run --rm true, without network"
	titleParallel = "20 starts of true at once, until all are removed"
)

// rowRun measures the whole life of a container that does nothing.
func (b *bench) rowRun(ctx context.Context) ([]*result, error) {
	a := b.amphora
	warm, err := b.work("run", a.root, a.state, "", "none", "", imageName, "true")
	if err != nil {
		return nil, err
	}
	defer warm.close()
	fresh, err := b.fresh(a, "none", "")
	if err != nil {
		return nil, err
	}
	list := []contender{{name: nameLibrary, kind: api, do: warm.asks("1")}, fresh}
	list = b.ours(a, list, "run", "--rm", "--network", "none", imageName, "true")
	if d := b.docker; d != nil {
		list = append(list,
			contender{name: "docker API", kind: api, do: timed(func(ctx context.Context) error { return d.client.run(ctx, d.image, "true") })},
			b.command("docker run", d.cli, d.run("--rm", d.image, "true")...))
	}
	if p := b.podman; p != nil {
		list = append(list, b.command("podman run", p.cli, p.run("--rm", p.image, "true")...))
	}
	if r := b.runc; r != nil {
		list = append(list, b.command("runc run, no seccomp", r.cli, "run", "-b", r.dir+"/true", "bench-true"))
	}
	return []*result{b.compare(ctx, titleRun, b.n, list)}, nil
}

// rowParallel measures what happens when many come at once.
func (b *bench) rowParallel(ctx context.Context) ([]*result, error) {
	const many = 20
	a := b.amphora
	warm, err := b.work("run", a.root, a.state, "", "none", "", imageName, "true")
	if err != nil {
		return nil, err
	}
	defer warm.close()
	list := []contender{{name: nameLibrary, kind: api, do: warm.asks(strconv.Itoa(many))}}
	all := func(name string, t *tool, args ...string) contender {
		return contender{name: name, kind: command, do: timed(func(ctx context.Context) error {
			return atOnce(many, func() error { return t.run(ctx, args...) })
		})}
	}
	if a.cli != nil {
		run := []string{"run", "--rm", "--network", "none", imageName, "true"}
		list = append(list, all(nameCLI, a.cli, run...), all(nameHelper, a.cliHelper, run...))
	}
	if d := b.docker; d != nil {
		list = append(list, contender{name: "docker API", kind: api, do: timed(func(ctx context.Context) error {
			return atOnce(many, func() error { return d.client.run(ctx, d.image, "true") })
		})}, all("docker run", d.cli, d.run("--rm", d.image, "true")...))
	}
	return []*result{b.compare(ctx, titleParallel, b.n, list)}, nil
}

// atOnce calls f n times in parallel and returns an error of them.
func atOnce(n int, f func() error) error {
	errs := make(chan error, n)
	for range n {
		go func() { errs <- f() }()
	}
	var err error
	for range n {
		if e := <-errs; e != nil {
			err = e
		}
	}
	return err
}
