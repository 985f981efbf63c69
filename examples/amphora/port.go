package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/amphora-go/amphora/container"
	"github.com/amphora-go/amphora/network"
)

var portCommand = command{
	name: "port", args: "CONTAINER [PRIVATE_PORT[/PROTO]]", summary: "List port mappings or a specific mapping for the container",
	min: 1, max: 2,
	setup: func(f *flags) action {
		return func(ctx context.Context, a *app, args []string) error {
			c, err := a.container(ctx, args[0])
			if err != nil {
				return err
			}
			info, err := c.Inspect(ctx)
			if err != nil {
				return err
			}
			all := mappings(info)
			if len(args) == 1 {
				for _, m := range all {
					fmt.Fprintf(a.stdout, "%d/%s -> %s\n", m.inner, m.protocol, m.outside())
				}
				return nil
			}
			number, protocol, given := strings.Cut(args[1], "/")
			if !given {
				protocol = "tcp"
			}
			inner, err := strconv.ParseUint(number, 10, 16)
			if err != nil {
				return fmt.Errorf("invalid port %q: give PORT[/tcp|udp|sctp]", args[1])
			}
			all = slices.DeleteFunc(all, func(m mapping) bool { return uint64(m.inner) != inner || m.protocol != protocol })
			if len(all) == 0 {
				return fmt.Errorf("no public port '%d/%s' published for %s", inner, protocol, args[0])
			}
			for _, m := range all {
				fmt.Fprintln(a.stdout, m.outside())
			}
			return nil
		}
	},
}

// mapping is a published port on one address of the host.
type mapping struct {
	inner, outer uint16
	address      string
	protocol     string
}

func (m mapping) outside() string { return net.JoinHostPort(m.address, fmt.Sprint(m.outer)) }

// mappings lists the published ports in Docker's order. One on every address
// stands for two: Docker, too, shows IPv4 and IPv6 apart.
func mappings(i *container.Info) (all []mapping) {
	for _, n := range i.Networks {
		for _, p := range n.Ports {
			addresses := []string{p.Host}
			if p.Host == network.AllHosts {
				addresses = []string{"0.0.0.0", "::"}
			}
			for _, a := range addresses {
				all = append(all, mapping{p.Container, p.HostPort, a, p.Protocol})
			}
		}
	}
	slices.SortFunc(all, func(a, b mapping) int {
		return cmp.Or(cmp.Compare(a.inner, b.inner), cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.address, b.address), cmp.Compare(a.outer, b.outer))
	})
	return all
}

// portColumn is what ps shows: ports that are the same inside and outside are
// joined to ranges, and come first.
func portColumn(i *container.Info) string {
	var same, other []string
	all := mappings(i)
	for len(all) > 0 {
		first := all[0]
		if first.inner != first.outer {
			other = append(other, fmt.Sprintf("%s->%d/%s", first.outside(), first.inner, first.protocol))
			all = all[1:]
			continue
		}
		last := first.inner
		all = slices.DeleteFunc(all, func(m mapping) bool {
			next := m == first || m.address == first.address && m.protocol == first.protocol && m.inner == m.outer && m.inner == last+1
			if next {
				last = m.inner
			}
			return next
		})
		ports := fmt.Sprint(first.inner)
		if last > first.inner {
			ports = fmt.Sprintf("%d-%d", first.inner, last)
		}
		same = append(same, fmt.Sprintf("%s->%s/%s", net.JoinHostPort(first.address, ports), ports, first.protocol))
	}
	return strings.Join(append(same, other...), ", ")
}
