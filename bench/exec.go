package main

import (
	"context"
)

const titleExec = "exec true in a running container"

// rowExec measures one more process in a container that sleeps. Each system
// has a container of its own.
func (b *bench) rowExec(ctx context.Context) ([]*result, error) {
	a := b.amphora
	keeper, err := b.work("detach", a.root, a.state, "", "none", imageName)
	if err != nil {
		return nil, err
	}
	defer keeper.close()
	if _, _, err := keeper.ask(ctx, "start bench-exec sleep 1000000"); err != nil {
		return nil, err
	}
	defer keeper.ask(context.WithoutCancel(ctx), "remove bench-exec")
	warm, err := b.work("exec", a.root, a.state, "bench-exec", "true")
	if err != nil {
		return nil, err
	}
	defer warm.close()
	list := []contender{{name: nameLibrary, kind: api, do: warm.asks("exec")}}
	list = b.ours(a, list, "exec", "bench-exec", "true")
	if d := b.docker; d != nil {
		if err := d.cli.run(ctx, d.run("-d", "--name", "bench-exec", d.image, "sleep", "1000000")...); err != nil {
			return nil, err
		}
		defer d.cli.run(context.WithoutCancel(ctx), "rm", "-f", "bench-exec")
		list = append(list,
			contender{name: "docker API", kind: api, do: timed(func(ctx context.Context) error { return d.client.exec(ctx, "bench-exec", "true") })},
			b.command("docker exec", d.cli, "exec", "bench-exec", "true"))
	}
	if p := b.podman; p != nil {
		if err := p.cli.run(ctx, p.run("-d", "--name", "bench-exec", p.image, "sleep", "1000000")...); err != nil {
			return nil, err
		}
		defer p.cli.run(context.WithoutCancel(ctx), "rm", "-f", "-t", "0", "bench-exec")
		list = append(list, b.command("podman exec", p.cli, "exec", "bench-exec", "true"))
	}
	if r := b.runc; r != nil {
		if err := r.cli.run(ctx, "run", "-d", "-b", r.dir+"/sleep", "bench-exec"); err != nil {
			return nil, err
		}
		defer r.cli.run(context.WithoutCancel(ctx), "delete", "-f", "bench-exec")
		list = append(list, b.command("runc exec, no seccomp", r.cli, "exec", "bench-exec", "true"))
	}
	return []*result{b.compare(ctx, titleExec, b.n, list)}, nil
}
