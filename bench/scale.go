package main

import (
	"context"
	"fmt"
)

const (
	titleScaleAttach  = "attach a namespace and detach it, both families, beside what is there"
	titleScaleConnect = "connect a running container and disconnect it, both families, beside what is there"
)

// full is a store with much in it, on a host of its own.
type full struct {
	name                 string
	leases, alive, ports int // alive: namespaces that stay

	a       *amphora
	warm    *worker // attaches
	connect *worker
	spare   *namespace
	undo    undo
}

// rowScale measures whether the cost of a connection grows with their number.
// The stores exist side by side, so that their samples are interleaved.
func (b *bench) rowScale(ctx context.Context) ([]*result, error) {
	few, some, many := 10, 500, 5000
	if b.quick {
		some, many = 50, 200
	}
	stores := []*full{{leases: few, alive: few}, {leases: some, alive: few}, {leases: some, alive: some}, {leases: many, alive: few}, {leases: few, alive: few, ports: many}}
	var attach, connect []contender
	for _, s := range stores {
		s.name = fmt.Sprintf("%d leases", s.leases)
		if s.alive > few {
			s.name += ", all in use"
		}
		if s.ports > 0 {
			s.name += fmt.Sprintf(", %d published ports", s.ports)
		}
		defer s.close()
		if err := b.fill(ctx, s); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		attach = append(attach, contender{name: s.name, kind: api, do: s.warm.cycles(scaleNet, s.spare)})
		connect = append(connect, contender{name: s.name, kind: api, do: s.connect.asks("1")})
	}
	var results []*result
	for _, what := range []struct {
		title string
		list  []contender
	}{{titleScaleAttach, attach}, {titleScaleConnect, connect}} {
		r := b.compare(ctx, what.title, b.n, what.list)
		r.Base = stores[0].name
		base := r.find(r.Base, api)
		for _, s := range stores[1:] {
			if found := r.find(s.name, api); base != nil && found != nil && !b.quick {
				ratio := found.median() / base.median()
				r.Goals = append(r.Goals, line(ratio <= 1.5, what.title[:len(what.title)-len(", both families, beside what is there")]+": flat within 1.5",
					fmt.Sprintf("%s / %s = %.2f", s.name, base.Name, ratio)))
			}
		}
		results = append(results, r)
	}
	results[0].Notes = append(results[0].Notes,
		fmt.Sprintf("a store, and a host, for each line; all leases are of one network, made by Manager.Attach; the namespaces of all but %d have gone since, "+
			"without Detach, since the kernel allows 1023 interfaces on a bridge: their leases and records stay until Recover", few),
		fmt.Sprintf("ports are published by containers that run, at most %d each, the most that sockets are held for", portsEach))
	return results, nil
}

const (
	portsEach = 1000 // of one container
	scaleNet  = "bench"
)

// fill makes the leases and ports of a store.
func (b *bench) fill(ctx context.Context, s *full) error {
	b.say("filling a store: %s", s.name)
	host, err := b.host(ctx)
	if err != nil {
		return err
	}
	if s.a, err = b.storeIn(ctx, host, fmt.Sprintf("scale-%d-%d-%d", s.leases, s.alive, s.ports)); err != nil {
		return err
	}
	if s.a.cli == nil {
		return fmt.Errorf("it needs examples/amphora")
	}
	if s.warm, err = b.workIn(host, "attach", s.a.root, s.a.state); err != nil {
		return err
	}
	if _, _, err := s.warm.ask(ctx, "create "+scaleNet+" 10.77.0.0/16 fd77::/64"); err != nil {
		return err
	}
	if s.spare, err = newNamespace(); err != nil {
		return err
	}
	for have := 0; have < s.leases; {
		batch := min(10, s.leases-have)
		c, err := newCrowd(batch)
		if err != nil {
			return err
		}
		_, _, err = s.warm.ask(ctx, "attach "+scaleNet+" "+c.words(have))
		if have < s.alive {
			s.undo.fs = append(s.undo.fs, c.close)
		} else {
			c.close()
		}
		if err != nil {
			return err
		}
		have += batch
	}
	for have := 0; have < s.ports; have += portsEach {
		last := min(have+portsEach, s.ports)
		name, ports := fmt.Sprintf("bench-ports-%d", have), fmt.Sprintf("127.0.0.1:%d-%d:%d-%d", 10000+have, 10000+last-1, 10000+have, 10000+last-1)
		if err := s.undo.run(ctx, s.a.cli, []string{"run", "-d", "--name", name, "-p", ports, imageName, "sleep", "1000000"}, "rm", "-f", name); err != nil {
			return err
		}
	}
	if err := s.undo.run(ctx, s.a.cli, []string{"run", "-d", "--name", "bench-net", imageName, "sleep", "1000000"}, "rm", "-f", "bench-net"); err != nil {
		return err
	}
	s.connect, err = b.workIn(host, "connect", s.a.root, s.a.state, "bench-net", scaleNet)
	return err
}

func (s *full) close() {
	for _, w := range []*worker{s.warm, s.connect} {
		if w != nil {
			w.close()
		}
	}
	if s.spare != nil {
		s.spare.close()
	}
	s.undo.all()
}
