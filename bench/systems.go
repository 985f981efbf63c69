package main

import (
	"context"
	"os"
	"strconv"
)

// system is one way of having idle containers.
type system struct {
	name    string
	start   func(ctx context.Context, name string) error
	stop    func(ctx context.Context, name string)
	each    func() []int // processes that serve one container each
	daemons func() []int // processes that serve them all; nil: there are none
}

const nameShim = "amphora"

// systems are all that there are, with containers on a network.
func (b *bench) systems(a *amphora, p *podman, network string) []*system {
	list := []*system{b.shims(a, nameShim, "", network), b.shims(a, nameHelper, a.helper, network)}
	if d := b.docker; d != nil {
		list = append(list, &system{name: "docker", each: d.shims, daemons: d.daemons,
			start: func(ctx context.Context, name string) error {
				return d.cli.run(ctx, "run", "-d", "--network", network, "--name", name, d.image, "sleep", "1000000")
			},
			stop: func(ctx context.Context, name string) { d.client.remove(ctx, name) }})
	}
	if p != nil {
		list = append(list, &system{name: "podman", each: p.monitors,
			start: func(ctx context.Context, name string) error {
				return p.cli.run(ctx, p.runOn(network, "-d", "--name", name, p.image, "sleep", "1000000")...)
			},
			stop: func(ctx context.Context, name string) { p.cli.run(ctx, "rm", "-f", "-t", "0", name) }})
	}
	return list
}

// shims are containers that the library made, whose program has ended since:
// the supervisors alone are left, as children of ours.
func (b *bench) shims(a *amphora, name, helper, network string) *system {
	own := map[int]bool{}    // first processes of the containers
	before := map[int]bool{} // what was there already: daemons of the peers
	for _, p := range descendants(os.Getpid()) {
		before[p.pid] = true
	}
	ask := func(ctx context.Context, line string) (string, error) {
		w, err := b.workIn(a.ns, "detach", a.root, a.state, helper, network, imageName)
		if err != nil {
			return "", err
		}
		defer w.close()
		_, text, err := w.ask(ctx, line)
		return text, err
	}
	return &system{name: name,
		start: func(ctx context.Context, name string) error {
			text, err := ask(ctx, "start "+name+" sleep 1000000")
			if err != nil {
				return err
			}
			pid, err := strconv.Atoi(text)
			own[pid] = true
			return err
		},
		stop: func(ctx context.Context, name string) {
			if _, err := ask(ctx, "remove "+name); err != nil {
				b.note("%s: %v", name, err)
			}
		},
		// Whatever has come since, descends from us and is no container's own
		// process: supervisors, and anything else that stayed.
		each: func() []int {
			var pids []int
			for _, p := range descendants(os.Getpid()) {
				if !p.zombie && !own[p.pid] && !before[p.pid] {
					pids = append(pids, p.pid)
				}
			}
			return pids
		}}
}
