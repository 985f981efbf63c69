package networks

import (
	"context"
	"fmt"

	"github.com/amphora-go/amphora/internal/attachment"
	"github.com/amphora-go/amphora/internal/host"
	"github.com/amphora-go/amphora/internal/ports"
)

// checker collects what stands in the way of networks. Nothing of it keeps
// containers from running at all: those without a network, or with the host's,
// need none of it.
type checker struct {
	s        *Store
	found    []host.Finding
	networks []*Network      // with bridges of this Root
	up       map[string]bool // bridges that are on the host now
}

func (c *checker) note(name, cure, format string, args ...any) {
	c.found = append(c.found, host.Finding{Name: name, Problem: fmt.Sprintf(format, args...), Cure: cure})
}

// Check lists what this machine lacks for networks, and what of others drops
// their traffic. It changes nothing that stays, and works in the calling
// thread's network namespace.
func (s *Store) Check(ctx context.Context) []host.Finding {
	c := &checker{s: s, up: map[string]bool{}}
	all, err := s.List(ctx)
	if err != nil {
		c.note("networks", "see the error", "they cannot be read: %v", err)
	}
	for _, n := range all {
		switch {
		case n.Problem != "":
			c.note("network "+n.Name, "repair or remove its file in "+s.dir(), "%s", n.Problem)
		case n.Driver == "bridge" && n.Bridge != "":
			c.networks = append(c.networks, n)
		}
	}
	c.machine(ctx)
	for _, n := range all {
		if n.Problem == "" {
			c.ports(n)
		}
	}
	return c.found
}

// names are the bridges for which keep holds.
func (c *checker) names(keep func(*Network) bool) (names []string) {
	for _, n := range c.networks {
		if keep(n) {
			names = append(names, n.Bridge)
		}
	}
	return names
}

// ports finds published ports that no socket reserves.
func (c *checker) ports(n *Network) {
	all, err := attachment.List(c.s.root.State, n.Name)
	if err != nil {
		c.note("network "+n.Name, "recover the store (Engine.Recover)", "%v", err)
	}
	for _, a := range all {
		free := 0
		for _, p := range a.Ports {
			if !p.Held {
				free++
			}
		}
		switch {
		case free == 0:
		case len(a.Ports) > ports.MaxHeld:
			c.note("published ports", fmt.Sprintf("publish %d at most, or keep other programs away from them", ports.MaxHeld),
				"%s publishes %d, and sockets are kept for up to %d of a container: by the kernel's rules alone another process may take one, [::1] does not answer, and nft flush ruleset ends them",
				who(a), len(a.Ports), ports.MaxHeld)
		default:
			c.note("published ports", "publish them again by a restart of the container", "no socket reserves %d of %s: another process may take them", free, who(a))
		}
	}
}
