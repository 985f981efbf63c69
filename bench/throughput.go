package main

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

const (
	titleTrafficAcross = "TCP from container to container"
	titleTrafficPort   = "TCP from 127.0.0.1:port of the host to a container"
	titleNames         = "queries for a container's name, by one that is beside it"
)

// pair is two containers on one network of one system: "bench-a", which sends
// and asks, and "bench-b", which receives.
type pair struct {
	name string // in the table
	cli  *tool
	host *namespace
}

const (
	inner = "5001" // port of bench-b
	outer = "15001"
)

// pairs brings up the containers everywhere.
func (b *bench) pairs(ctx context.Context, undo *undo) ([]*pair, error) {
	n, err := b.networked(ctx)
	if err != nil {
		return nil, err
	}
	all := []*pair{{name: nameCLI, cli: n.amphora.cli, host: n.amphora.ns}}
	if d := b.docker; d != nil {
		all = append(all, &pair{name: "docker", cli: d.cli, host: d.ns})
	}
	for _, p := range all {
		if err := p.up(ctx, undo, nil); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	if p := n.podman; p != nil {
		q := &pair{name: "podman", cli: p.cli, host: p.cli.ns}
		if err := q.up(ctx, undo, p.limits(), "-t", "0"); err != nil {
			b.note("podman's containers for traffic: %v", err)
		} else {
			all = append(all, q)
		}
	}
	return all, nil
}

// up takes what podman wants besides of run and of rm.
func (p *pair) up(ctx context.Context, undo *undo, limits []string, now ...string) error {
	if err := undo.run(ctx, p.cli, []string{"network", "create", netName}, "network", "rm", netName); err != nil {
		return err
	}
	for _, c := range [][]string{
		{"bench-b", "-p", "127.0.0.1:" + outer + ":" + inner, imageName, "traffic", "receive", inner},
		{"bench-a", imageName, "sleep", "1000000"}} {
		run := append([]string{"run", "-d", "--network", netName}, limits...)
		if err := undo.run(ctx, p.cli, append(append(run, "--name"), c...), append(append([]string{"rm", "-f"}, now...), c[0])...); err != nil {
			return err
		}
	}
	return nil
}

// measured makes a contender of a program that prints nanoseconds.
func measured(name string, output func(ctx context.Context) (string, error)) contender {
	return contender{name: name, kind: command, do: func(ctx context.Context) (time.Duration, error) {
		text, err := output(ctx)
		if err != nil {
			return 0, err
		}
		ns, err := strconv.ParseInt(text, 10, 64)
		return time.Duration(ns), err
	}}
}

// rowThroughput measures the ways of bytes: over a bridge, and from the host's
// loopback address through a published port.
func (b *bench) rowThroughput(ctx context.Context) ([]*result, error) {
	var undo undo
	defer undo.all()
	pairs, err := b.pairs(ctx, &undo)
	if err != nil {
		return nil, err
	}
	gib := 2
	if b.quick {
		gib = 1
	}
	bytes := strconv.Itoa(gib << 30)
	var across, port []contender
	for _, p := range pairs {
		across = append(across, measured(p.name, func(ctx context.Context) (string, error) {
			return p.cli.output(ctx, nil, "exec", "bench-a", "traffic", "send", "bench-b:"+inner, bytes)
		}))
		outside := &tool{argv: []string{b.site.path("inside", "traffic")}, dir: b.site.dir, ns: p.host}
		port = append(port, measured(p.name, func(ctx context.Context) (string, error) {
			return outside.output(ctx, nil, "send", "127.0.0.1:"+outer, bytes)
		}))
	}
	var results []*result
	for _, what := range []struct {
		title string
		list  []contender
	}{{titleTrafficAcross, across}, {titleTrafficPort, port}} {
		r := b.compare(ctx, fmt.Sprintf("%s, one connection, %d GiB", what.title, gib), b.n, what.list)
		r.Work, r.Item = float64(gib)*8*1.073741824, "Gb"
		results = append(results, r)
	}
	results[0].Notes = append(results[0].Notes, "Gb are 10^9 bits; from the first byte until the receiver, having read the last, has closed the connection; each system in a network namespace of its own")
	return results, nil
}

// rowNames measures the resolvers at 127.0.0.11.
func (b *bench) rowNames(ctx context.Context) ([]*result, error) {
	var undo undo
	defer undo.all()
	pairs, err := b.pairs(ctx, &undo)
	if err != nil {
		return nil, err
	}
	queries := 100_000
	if b.quick {
		queries = 10_000
	}
	var list []contender
	for _, p := range pairs {
		if p.name == "podman" {
			continue // its resolver is at the gateway's address and serves whole networks
		}
		list = append(list, measured(p.name, func(ctx context.Context) (string, error) {
			return p.cli.output(ctx, nil, "exec", "bench-a", "traffic", "resolve", "bench-b", strconv.Itoa(queries))
		}))
	}
	r := b.compare(ctx, titleNames, b.n, list)
	r.Work, r.Item = float64(queries), "queries"
	r.Notes = []string{fmt.Sprintf("%d queries over UDP to 127.0.0.11 from 4 sockets, 16 outstanding for each, every answer looked at", queries)}
	return []*result{r}, nil
}
