package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
)

const (
	titleConnect = "connect a running container to a network and disconnect it"
	titleBridge  = "run --rm true, on a bridge with a published port"
)

// networks is what the rows about networks work on: a store and a podman that
// are in network namespaces of their own, as the docker daemon always is. All
// three have bridges, rules and routes of the same kind then, and none can
// harm the host's or gain from them.
type networks struct {
	amphora *amphora
	podman  *podman // nil: not there
}

// networked makes what the rows need, once.
func (b *bench) networked(ctx context.Context) (*networks, error) {
	if b.networks != nil {
		return b.networks, nil
	}
	n := &networks{}
	ns, err := b.host(ctx)
	if err != nil {
		return nil, err
	}
	if n.amphora, err = b.storeIn(ctx, ns, "network"); err != nil {
		return nil, err
	}
	if n.amphora.cli == nil {
		return nil, fmt.Errorf("it needs examples/amphora")
	}
	if b.podman != nil {
		p, cli := *b.podman, *b.podman.cli
		if cli.ns, err = b.host(ctx); err != nil {
			return nil, err
		}
		config := b.site.path("podman-networks")
		if err := os.MkdirAll(config, 0o755); err != nil {
			return nil, err
		}
		cli.argv = append(cli.argv[:len(cli.argv):len(cli.argv)], "--network-config-dir", config)
		p.cli, n.podman = &cli, &p
	}
	b.networks = n
	return n, nil
}

// host makes a namespace that is like a host's: with a loopback interface that
// is up.
func (b *bench) host(ctx context.Context) (*namespace, error) {
	ns, err := newNamespace()
	if err != nil {
		return nil, err
	}
	b.site.later(ns.close)
	up := &tool{argv: []string{"ip", "link", "set", "lo", "up"}, dir: b.site.dir, ns: ns}
	return ns, up.run(ctx)
}

const (
	netName  = "bench-net"
	nameBare = "amphora library, bare namespace"
)

// rowConnect measures what a further network costs a container that runs on
// the default one.
func (b *bench) rowConnect(ctx context.Context) ([]*result, error) {
	n, err := b.networked(ctx)
	if err != nil {
		return nil, err
	}
	a := n.amphora
	var undo undo
	defer undo.all()
	twice := func(name string, t *tool, container string) contender {
		return contender{name: name, kind: command, do: timed(func(ctx context.Context) error {
			if err := t.run(ctx, "network", "connect", netName, container); err != nil {
				return err
			}
			return t.run(ctx, "network", "disconnect", netName, container)
		})}
	}
	if err := undo.run(ctx, a.cli, []string{"network", "create", netName}, "network", "rm", netName); err != nil {
		return nil, err
	}
	list := []contender{}
	for _, c := range []struct {
		name, container string
		cli             *tool
	}{{nameCLI, "bench-net", a.cli}, {nameHelper, "bench-net-helper", a.cliHelper}} {
		if err := undo.run(ctx, c.cli, []string{"run", "-d", "--name", c.container, imageName, "sleep", "1000000"}, "rm", "-f", c.container); err != nil {
			return nil, err
		}
		list = append(list, twice(c.name, c.cli, c.container))
	}
	warm, err := b.workIn(a.ns, "connect", a.root, a.state, "bench-net", netName)
	if err != nil {
		return nil, err
	}
	defer warm.close()
	bare, err := b.workIn(a.ns, "attach", a.root, a.state)
	if err != nil {
		return nil, err
	}
	defer bare.close()
	spare, err := newNamespace()
	if err != nil {
		return nil, err
	}
	defer spare.close()
	list = append([]contender{{name: nameLibrary, kind: api, do: warm.asks("1")},
		{name: nameBare, kind: api, do: bare.cycles(netName, spare)}}, list...)
	if d := b.docker; d != nil {
		if err := undo.run(ctx, d.cli, []string{"network", "create", netName}, "network", "rm", netName); err != nil {
			return nil, err
		}
		if err := undo.run(ctx, d.cli, []string{"run", "-d", "--name", "bench-net", d.image, "sleep", "1000000"}, "rm", "-f", "bench-net"); err != nil {
			return nil, err
		}
		list = append(list, contender{name: "docker API", kind: api, do: timed(func(ctx context.Context) error {
			if err := d.client.call(ctx, http.MethodPost, "/networks/"+netName+"/connect", object{"Container": "bench-net"}, nil); err != nil {
				return err
			}
			return d.client.call(ctx, http.MethodPost, "/networks/"+netName+"/disconnect", object{"Container": "bench-net"}, nil)
		})}, twice("docker network", d.cli, "bench-net"))
	}
	if p := n.podman; p != nil {
		if err := undo.run(ctx, p.cli, []string{"network", "create", netName}, "network", "rm", netName); err != nil {
			return nil, err
		}
		run := p.runOn("bridge", "-d", "--name", "bench-net", p.image, "sleep", "1000000")
		if err := undo.run(ctx, p.cli, run, "rm", "-f", "-t", "0", "bench-net"); err != nil {
			return nil, err
		}
		list = append(list, twice("podman network", p.cli, "bench-net"))
	}
	return []*result{b.compare(ctx, titleConnect, b.n, list)}, nil
}

// rowBridge is the row "run", with a network: an interface, an address and a
// free port of 127.0.0.1 that leads to it.
func (b *bench) rowBridge(ctx context.Context) ([]*result, error) {
	n, err := b.networked(ctx)
	if err != nil {
		return nil, err
	}
	a := n.amphora
	warm, err := b.workIn(a.ns, "run", a.root, a.state, "", "bridge", "80", imageName, "true")
	if err != nil {
		return nil, err
	}
	defer warm.close()
	fresh, err := b.fresh(a, "bridge", "80")
	if err != nil {
		return nil, err
	}
	const port = "127.0.0.1::80"
	list := []contender{{name: nameLibrary, kind: api, do: warm.asks("1")}, fresh}
	list = b.ours(a, list, "run", "--rm", "-p", port, imageName, "true")
	if d := b.docker; d != nil {
		host := object{"PortBindings": object{"80/tcp": []object{{"HostIp": "127.0.0.1", "HostPort": ""}}}}
		list = append(list,
			contender{name: "docker API", kind: api, do: timed(func(ctx context.Context) error { return d.client.runOn(ctx, host, d.image, "true") })},
			b.command("docker run", d.cli, "run", "--rm", "-p", port, d.image, "true"))
	}
	if p := n.podman; p != nil {
		list = append(list, b.command("podman run", p.cli, p.runOn("bridge", "--rm", "-p", port, p.image, "true")...))
	}
	return []*result{b.compare(ctx, titleBridge, b.n, list)}, nil
}

// undo is a list of what is to be undone, the last first.
type undo struct{ fs []func() }

// run runs a tool, and another time with what takes it back in the end.
func (u *undo) run(ctx context.Context, t *tool, do []string, back ...string) error {
	err := t.run(ctx, do...)
	if err == nil {
		u.fs = append(u.fs, func() { t.run(context.WithoutCancel(ctx), back...) })
	}
	return err
}

func (u *undo) all() {
	for i := len(u.fs) - 1; i >= 0; i-- {
		u.fs[i]()
	}
}
