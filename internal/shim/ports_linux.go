package shim

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/ports"
	"github.com/amphora-go/amphora/internal/record"
)

// wants turns the record's ports into requests. Random ones that differ in
// protocol or host address only get the same number.
func wants(all []record.Port) []ports.Want {
	out := make([]ports.Want, 0, len(all))
	groups := map[record.Port]int{}
	for _, p := range all {
		w := ports.Want{Protocol: p.Protocol, Host: p.Host, Port: p.HostPort, PortEnd: p.HostEnd, Container: p.Container}
		if p.HostPort == 0 || p.HostEnd > 0 {
			key := record.Port{HostPort: p.HostPort, HostEnd: p.HostEnd, Container: p.Container}
			if groups[key] == 0 {
				groups[key] = len(groups) + 1
			}
			w.Group = groups[key]
		}
		out = append(out, w)
	}
	return out
}

// namePortHolder says which of our containers has a port that another
// supervisor holds.
func (s *shim) namePortHolder(err error) error {
	var c *ports.Conflict
	if !errors.As(err, &c) || c.PID == 0 {
		return err
	}
	ids, _ := s.root.IDs()
	for _, id := range ids {
		if run, rerr := s.root.LoadRun(id); rerr == nil && run != nil && run.Shim == c.PID {
			if other, rerr := s.root.Load(id); rerr == nil {
				return fault.Kind(os.ErrExist, "port %d/%s is published by container %s (%s): stop it, or publish another port", c.Port, c.Protocol, other.Name, record.Short(id))
			}
		}
	}
	return err
}

// aim has the held ports lead to where the published ones do. The sockets ask
// without a lock: they are closed, and waited for, while mu is held.
func (w *wires) aim() {
	var all []netip.Addr
	if a := w.publisher(); a != nil {
		for _, p := range a.Addresses {
			all = append(all, p.Addr())
		}
	}
	w.reach.Store(&all)
}

// serve lets the held ports answer; pause keeps them while nothing runs.
func (w *wires) serve() error {
	if w == nil || w.held == nil {
		return nil
	}
	return w.held.Serve(func(container uint16, _ string) []netip.AddrPort {
		var all []netip.AddrPort
		for _, addr := range *w.reach.Load() {
			all = append(all, netip.AddrPortFrom(addr, container))
		}
		return all
	})
}

func (w *wires) pause() {
	if w != nil && w.held != nil {
		w.held.Pause()
	}
}

// fillPorts replaces {{port "9092/tcp"}} by the host's port.
func (w *wires) fillPorts(values []string) {
	if w == nil || w.held == nil {
		return
	}
	for i, v := range values {
		if !strings.Contains(v, "{{port ") {
			continue
		}
		for _, p := range w.held.Bound() {
			v = strings.ReplaceAll(v, fmt.Sprintf("{{port \"%d/%s\"}}", p.Container, p.Protocol), fmt.Sprint(p.HostPort))
			if p.Protocol == "tcp" {
				v = strings.ReplaceAll(v, fmt.Sprintf("{{port \"%d\"}}", p.Container), fmt.Sprint(p.HostPort))
			}
		}
		values[i] = v
	}
}
