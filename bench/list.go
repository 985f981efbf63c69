package main

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

const (
	titleList    = "list of %d stopped containers"
	titleInspect = "inspect one of %d stopped containers"
)

// rowList measures how listing and inspecting grow with the store. Nothing but
// this row's containers is in the stores then; the peers' are made only once,
// and end with their stores.
func (b *bench) rowList(ctx context.Context) ([]*result, error) {
	counts := []int{1, 100, 1000}
	if b.quick {
		counts = []int{1, 20}
	}
	warm, err := b.work("list", b.amphora.root, b.amphora.state, imageName)
	if err != nil {
		return nil, err
	}
	defer warm.close()
	var results []*result
	have := 0
	for _, count := range counts {
		b.say("making %d containers", count)
		podman := count <= podmanMost
		for have < count && ctx.Err() == nil {
			batch := min(4, count-have) // docker gains from it
			if err := b.createStopped(ctx, warm, have, batch, podman); err != nil {
				return results, err
			}
			have += batch
		}
		list, inspect := b.listContenders(warm, count, podman)
		for i, what := range []struct {
			title string
			list  []contender
		}{{titleList, list}, {titleInspect, inspect}} {
			r := b.compare(ctx, fmt.Sprintf(what.title, count), b.n, what.list)
			if s := r.find(nameLibrary, api); i == 0 && count == 1000 && s != nil {
				r.Goals = []string{line(s.median() <= 50, "list of 1000 containers in 50 ms", fmt.Sprintf("%.1f ms", s.median()))}
			}
			if !podman && b.podman != nil {
				r.Notes = append(r.Notes, fmt.Sprintf("podman is left out: it takes too long to make %d containers", count))
			}
			results = append(results, r)
		}
	}
	return results, nil
}

// podmanMost is the most containers that podman makes in bearable time.
const podmanMost = 100

func stoppedName(i int) string { return fmt.Sprintf("bench-list-%d", i) }

// createStopped makes containers number from and following, everywhere.
func (b *bench) createStopped(ctx context.Context, warm *worker, from, n int, podman bool) error {
	for i := range n {
		if _, _, err := warm.ask(ctx, "create "+stoppedName(from+i)); err != nil {
			return err
		}
		if p := b.podman; p != nil && podman {
			if err := p.cli.run(ctx, p.container("create", "none", []string{"--name", stoppedName(from + i), p.image, "true"})...); err != nil {
				return err
			}
		}
	}
	if b.docker == nil {
		return nil
	}
	errs := make(chan error, n)
	for i := range n {
		go func() {
			_, err := b.docker.client.create(ctx, stoppedName(from+i), b.docker.image, "true")
			errs <- err
		}()
	}
	var err error
	for range n {
		if e := <-errs; e != nil {
			err = e
		}
	}
	return err
}

func (b *bench) listContenders(warm *worker, count int, podman bool) (list, inspect []contender) {
	one := stoppedName(count / 2)
	list = []contender{{name: nameLibrary, kind: api, do: func(ctx context.Context) (time.Duration, error) {
		took, text, err := warm.ask(ctx, "list")
		if err == nil && text != fmt.Sprint(count) {
			err = fmt.Errorf("%s listed instead of %d", text, count)
		}
		return took, err
	}}}
	inspect = []contender{{name: nameLibrary, kind: api, do: warm.asks("inspect " + one)}}
	if cli := b.amphora.cli; cli != nil {
		list = append(list, b.command(nameCLI, cli, "ps", "-a"))
		inspect = append(inspect, b.command(nameCLI, cli, "inspect", one))
	}
	if d := b.docker; d != nil {
		list = append(list, contender{name: "docker API", kind: api, do: timed(func(ctx context.Context) error {
			var all []struct{ Id string }
			err := d.client.call(ctx, http.MethodGet, "/containers/json?all=1", nil, &all)
			if err == nil && len(all) != count {
				err = fmt.Errorf("%d listed instead of %d", len(all), count)
			}
			return err
		})}, b.command("docker ps", d.cli, "ps", "-a"))
		inspect = append(inspect, contender{name: "docker API", kind: api, do: timed(func(ctx context.Context) error {
			return d.client.call(ctx, http.MethodGet, "/containers/"+one+"/json", nil, &struct{ Id string }{})
		})}, b.command("docker inspect", d.cli, "inspect", one))
	}
	if p := b.podman; p != nil && podman {
		list = append(list, b.command("podman ps", p.cli, "ps", "-a"))
		inspect = append(inspect, b.command("podman inspect", p.cli, "inspect", one))
	}
	return list, inspect
}
