package container

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/recovery"
	"github.com/amphora-go/amphora/internal/shim"
	"github.com/amphora-go/amphora/network"
)

// endpoints finds the networks of a Spec.
func (m *Manager) endpoints(ctx context.Context, spec *Spec) ([]record.Endpoint, error) {
	want := spec.Networks
	if len(want) == 0 {
		want = []network.Endpoint{{Network: network.Bridge}}
	}
	var out []record.Endpoint
	for _, e := range want {
		if !e.Own() {
			return nil, nil
		}
		r, err := m.endpoint(ctx, e)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out, func(o record.Endpoint) bool { return o.Network == r.Network }) {
			return nil, fault.Invalid("network %s is given twice", r.Network)
		}
		out = append(out, r)
	}
	return out, nil
}

func (m *Manager) endpoint(ctx context.Context, e network.Endpoint) (record.Endpoint, error) {
	if e.Network == network.Bridge || e.Network == "default" {
		if len(e.Aliases) > 0 {
			return record.Endpoint{}, fault.Invalid("network %s has no names, and so no aliases: use a network of your own", e.Network)
		}
		r := e.Record()
		r.Network = network.Bridge // made when the first container is attached
		return r, nil
	}
	n, err := m.networks.Get(ctx, e.Network)
	if errors.Is(err, os.ErrNotExist) {
		err = fault.Invalid("no such network: make it first, or use bridge, none, host or container:NAME")
	}
	if err != nil {
		return record.Endpoint{}, fault.New("network", e.Network, err)
	}
	r := e.Record()
	r.Network = n.Name
	return r, nil
}

// promise keeps the addresses that a container demands.
func (d *draft) promise(ctx context.Context, c *record.Container) error {
	for _, e := range c.Networks {
		for _, addr := range e.Addresses {
			d.kept = true
			if err := d.m.networks.Promise(ctx, e.Network, addr, c.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// publish lists the ports to be published.
func publish(spec *Spec, img *image.RunConfig, mode string) ([]record.Port, error) {
	want := slices.Clone(spec.Ports)
	exposed := slices.Clone(spec.Expose)
	for p := range img.ExposedPorts {
		exposed = append(exposed, p)
	}
	slices.Sort(exposed)
	all, err := expand(exposed)
	if err != nil {
		return nil, err
	}
	if spec.PublishAll {
		for _, e := range all {
			same := func(p network.Port) bool {
				return p.Container == e.Container && (p.Protocol == e.Protocol || p.Protocol == "" && e.Protocol == "tcp")
			}
			if !slices.ContainsFunc(want, same) {
				want = append(want, e)
			}
		}
	}
	if len(want) > 0 && !(&record.Container{Network: mode}).Wired() {
		return nil, fault.Invalid("ports are published for containers with a network of their own; this one runs with network %s: leave the ports out, or the network", mode)
	}
	var out []record.Port
	for _, p := range want {
		r, err := p.Record()
		if err != nil {
			return nil, err
		}
		for _, o := range out {
			if r.HostPort != 0 && r.HostEnd == 0 && o.HostPort == r.HostPort && o.HostEnd == 0 && o.Protocol == r.Protocol && (o.Host == r.Host || !o.Host.IsValid() || !r.Host.IsValid()) {
				return nil, fault.Invalid("the host's port %d/%s is published twice", r.HostPort, r.Protocol)
			}
		}
		out = append(out, r)
	}
	return out, checkTemplates(spec, out)
}

// expand reads exposed ports: "80", "53/udp", "7000-7010/tcp".
func expand(exposed []string) ([]network.Port, error) {
	var all []network.Port
	for _, e := range exposed {
		ports, proto, _ := strings.Cut(e, "/")
		first, last, ranged := strings.Cut(ports, "-")
		a, err := strconv.ParseUint(first, 10, 16)
		b := a
		if err == nil && ranged {
			b, err = strconv.ParseUint(last, 10, 16)
		}
		if proto == "" {
			proto = "tcp"
		}
		if err != nil || a == 0 || b < a || proto != "tcp" && proto != "udp" && proto != "sctp" {
			return nil, fault.Invalid("exposed port %q: write PORT[-END][/tcp|udp|sctp]", e)
		}
		for p := a; p <= b; p++ {
			q := network.Port{Container: uint16(p), Protocol: proto, Host: network.AllHosts}
			if !slices.Contains(all, q) {
				all = append(all, q)
			}
		}
	}
	return all, nil
}

// checkTemplates refuses {{port "..."}} of a port that is not published.
func checkTemplates(spec *Spec, published []record.Port) error {
	for _, v := range slices.Concat(spec.Env, spec.Entrypoint, spec.Command) {
		for rest := v; ; {
			_, after, ok := strings.Cut(rest, `{{port "`)
			if !ok {
				break
			}
			name, tail, ok := strings.Cut(after, `"}}`)
			if !ok {
				break
			}
			number, proto, _ := strings.Cut(name, "/")
			if proto == "" {
				proto = "tcp"
			}
			if !slices.ContainsFunc(published, func(p record.Port) bool { return fmt.Sprint(p.Container) == number && p.Protocol == proto }) {
				return fault.Invalid("%q names the host's port of %s/%s, which is not published: add it to Ports", v, number, proto)
			}
			rest = tail
		}
	}
	return nil
}

// Connect attaches the container to a further network: at once if it runs, and
// at every start from now on.
func (c *Container) Connect(ctx context.Context, e network.Endpoint) error {
	return c.failed("connect", c.connect(ctx, e))
}

func (c *Container) connect(ctx context.Context, e network.Endpoint) error {
	if err := e.Validate(); err != nil {
		return err
	}
	if !e.Own() {
		return fault.Invalid("a container can be connected to networks only, not to %s", e.Network)
	}
	r, err := c.m.endpoint(ctx, e)
	if err != nil {
		return err
	}
	return c.rewire(ctx, func(rec *record.Container, client *shim.Client) error {
		if !rec.Wired() {
			return fault.Invalid("the container runs with network %s, which it shares or lacks: create it with a network of its own", rec.Network)
		}
		if slices.ContainsFunc(rec.Networks, func(o record.Endpoint) bool { return o.Network == r.Network }) {
			return fault.Kind(os.ErrExist, "it is attached to network %s already", r.Network)
		}
		for _, addr := range r.Addresses {
			if err := c.m.networks.Promise(ctx, r.Network, addr, c.id); err != nil {
				return errors.Join(err, c.m.networks.Release(r.Network, c.id))
			}
		}
		if client != nil {
			if err := client.Connect(ctx, &r); err != nil {
				return errors.Join(err, c.m.networks.Release(r.Network, c.id))
			}
		}
		rec.Networks = append(rec.Networks, r)
		return nil
	})
}

// Disconnect takes the container off a network. One that it is not attached to
// is fs.ErrNotExist. Published ports move to another of its networks.
func (c *Container) Disconnect(ctx context.Context, name string) error {
	return c.failed("disconnect", c.disconnect(ctx, name))
}

func (c *Container) disconnect(ctx context.Context, name string) error {
	if n, err := c.m.networks.Get(ctx, name); err == nil {
		name = n.Name
	}
	return c.rewire(ctx, func(rec *record.Container, client *shim.Client) error {
		i := slices.IndexFunc(rec.Networks, func(o record.Endpoint) bool { return o.Network == name })
		if i < 0 && client == nil {
			return fault.NotExist("it is not attached to network %s", name)
		}
		if client != nil {
			if err := client.Disconnect(ctx, name); err != nil && (i < 0 || !errors.Is(err, os.ErrNotExist)) {
				return err
			}
		}
		if i >= 0 {
			rec.Networks = slices.Delete(rec.Networks, i, i+1)
		}
		return c.m.networks.Release(name, c.id)
	})
}

// rewire changes the networks of a container's record, and of its supervisor
// if it runs: no start comes between.
func (c *Container) rewire(ctx context.Context, change func(*record.Container, *shim.Client) error) error {
	for {
		if _, err := recovery.Judge(ctx, c.m.root, c.id); err != nil {
			return err
		}
		alive, err := c.m.root.TryAlive(c.id)
		var client *shim.Client
		switch {
		case err == nil:
		case errors.Is(err, flock.ErrHeld):
			client, err = c.control(ctx)
			if errors.Is(err, ErrNotRunning) { // it is on its way out: look again
				if err = pause(ctx); err == nil {
					continue
				}
			}
			if err != nil {
				return err
			}
		default:
			return err
		}
		err = c.locked(ctx, func(rec *record.Container) error {
			if err := change(rec, client); err != nil {
				return err
			}
			return c.m.root.SaveQuietly(rec)
		})
		if client != nil {
			client.Close()
		} else {
			alive.Release()
		}
		return err
	}
}

// Port returns the address on the host where a published port of the running
// container is reached: "8080/tcp" or "8080". A port that is not published is
// fs.ErrNotExist.
func (c *Container) Port(ctx context.Context, port string) (netip.AddrPort, error) {
	want, err := expand([]string{port})
	if err != nil {
		return netip.AddrPort{}, c.fail("port", err)
	}
	all, err := network.Attachments(c.m.networks, c.id)
	if err != nil {
		return netip.AddrPort{}, c.fail("port", err)
	}
	for _, a := range all {
		for _, p := range a.Ports {
			if p.Container != want[0].Container || p.Protocol != want[0].Protocol {
				continue
			}
			host, err := netip.ParseAddr(p.Host)
			if err != nil || host.IsUnspecified() && host.Is4() {
				host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
			} else if host.IsUnspecified() {
				host = netip.IPv6Loopback()
			}
			return netip.AddrPortFrom(host, p.HostPort), nil
		}
	}
	return netip.AddrPort{}, c.fail("port", fault.NotExist("port %s is not published, or the container does not run", port))
}
