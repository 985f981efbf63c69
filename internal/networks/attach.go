package networks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/amphora-go/amphora/internal/attachment"
	"github.com/amphora-go/amphora/internal/cni"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/journal"
	"github.com/amphora-go/amphora/internal/proc"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/step"
)

// Want is a connection to be made.
type Want struct {
	record.Endpoint
	ID        string // of the container, or of whatever the namespace is
	Container bool   // ID is a container's of this Root: the connection ends with it
	NetNS     string // path of the namespace
	Interface string // in it
	Metric    int    // of its default routes: the lowest wins
	Names     []string
	Prefer    []netip.Addr
	Ports     []attachment.Port
}

// Attach connects a namespace to a network. After a failure nothing of it is
// left.
func (s *Store) Attach(ctx context.Context, w *Want) (*attachment.Attachment, error) {
	a, err := s.attach(ctx, w)
	if !errors.Is(err, cni.ErrOverlap) || len(w.Addresses) > 0 {
		return a, err
	}
	// While nobody was attached the bridge was down, and its subnet was taken.
	if merr := s.move(ctx, w.Network); merr != nil {
		return nil, errors.Join(err, merr)
	}
	return s.attach(ctx, w)
}

func (s *Store) attach(ctx context.Context, w *Want) (*attachment.Attachment, error) {
	if w.Network == Default {
		if _, err := s.EnsureDefault(ctx); err != nil {
			return nil, err
		}
	}
	l, err := s.lock(ctx, flock.Shared)
	if err != nil {
		return nil, err
	}
	defer l.Release()
	n, err := s.Get(ctx, w.Network)
	if err != nil {
		return nil, fault.New("network", w.Network, fault.Opaque(err))
	}
	a, err := s.newAttachment(n, w)
	if err != nil {
		return nil, err
	}
	req, err := request(n, w)
	if err != nil {
		return nil, err
	}
	step.At("network.attach.begun")
	r, err := s.cni().Add(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("attach to network %s: %w", n.Name, err)
	}
	step.At("network.attach.added")
	a.Addresses, a.Gateways, a.MAC, a.HostLink, a.Plugins = r.Addresses, r.Gateways, r.MAC.String(), r.HostLink, r.Plugins
	if err := s.write(ctx, n, a); err != nil {
		req.Plugins = r.Plugins
		return nil, errors.Join(err, s.cni().Del(context.WithoutCancel(ctx), req))
	}
	step.At("network.attach.recorded")
	return a, nil
}

// write logs a connection and stores it in the same step.
func (s *Store) write(ctx context.Context, n *Network, a *attachment.Attachment) error {
	_, err := s.root.Log.Commit(ctx, n.connection("connect", a), func(seq uint64) error {
		a.Seq = seq
		return attachment.Write(s.root.State, a)
	})
	return err
}

func (n *Network) connection(action string, a *attachment.Attachment) journal.Event {
	ev := n.event(action)
	ev.Attributes["container"] = a.ID
	return ev
}

func (s *Store) newAttachment(n *Network, w *Want) (*attachment.Attachment, error) {
	a := &attachment.Attachment{Network: n.Name, ID: w.ID, Interface: w.Interface, Container: w.Container, Aliases: w.Aliases,
		Priority: w.Priority, Metric: w.Metric, Ports: w.Ports, Since: time.Now().UTC()}
	for _, name := range w.Names {
		if name = strings.ToLower(strings.TrimSuffix(name, ".")); name != "" && !slices.Contains(a.Names, name) {
			a.Names = append(a.Names, name)
		}
	}
	if !w.Container {
		a.Path = w.NetNS
	}
	var err error
	if a.Boot, err = proc.BootID(); err != nil {
		return nil, fault.Opaque(err)
	}
	if a.HostNS, err = proc.NamespaceInode("net"); err != nil {
		return nil, fault.Opaque(err)
	}
	a.NetNS, err = inode(w.NetNS)
	return a, err
}

func request(n *Network, w *Want) (*cni.Request, error) {
	req := &cni.Request{Conflist: n.Conflist, ID: w.ID, NetNS: w.NetNS, IfName: w.Interface, Addresses: w.Addresses, Prefer: w.Prefer,
		Metric: w.Metric, Aliases: w.Aliases, Ports: cniPorts(w.Ports)}
	for _, addr := range w.Addresses {
		if err := n.allows(addr); err != nil {
			return nil, err
		}
	}
	if w.MAC != "" {
		mac, err := net.ParseMAC(w.MAC)
		if err != nil {
			return nil, fault.Invalid("MAC address %q: %w", w.MAC, fault.Opaque(err))
		}
		req.MAC = mac
	}
	if b := w.Bandwidth; b != (record.Bandwidth{}) {
		req.Bandwidth = &cni.Bandwidth{IngressRate: b.Ingress * 8, IngressBurst: b.IngressBurst * 8, EgressRate: b.Egress * 8, EgressBurst: b.EgressBurst * 8}
	}
	return req, nil
}

// allows says whether a container may have that address on the network.
func (n *Network) allows(addr netip.Addr) error {
	var ours []string
	for _, sub := range n.Subnets {
		if !sub.holds(addr) {
			ours = append(ours, sub.Prefix.String())
			continue
		}
		if !sub.usable(addr) || addr == sub.Gateway {
			return fault.Invalid("the address %s of network %s is the subnet's own, its gateway's or broadcast: choose another one", addr, n.Name)
		}
		return nil
	}
	if len(n.Subnets) == 0 {
		return nil // the plugin knows
	}
	return fault.Invalid("the address %s does not lie in network %s (%s)", addr, n.Name, strings.Join(ours, ", "))
}

func cniPorts(ports []attachment.Port) []cni.Port {
	all := make([]cni.Port, 0, len(ports))
	for _, p := range ports {
		all = append(all, cni.Port{Protocol: p.Protocol, Host: p.Host, HostPort: p.HostPort, Container: p.Container})
	}
	return all
}

// Detach ends a connection. An empty netns says that the namespace is gone or
// about to go: the kernel takes the cable with it. It goes on after failures,
// and a second call finishes what the first could not.
func (s *Store) Detach(ctx context.Context, a *attachment.Attachment, netns string) error {
	l, err := s.lock(ctx, flock.Shared)
	if err != nil {
		return err
	}
	defer l.Release()
	return s.detach(ctx, a, netns)
}

func (s *Store) detach(ctx context.Context, a *attachment.Attachment, netns string) error {
	if a.LockFile != "" { // a name that a killed process served: nothing was plugged in
		os.Remove(a.LockFile)
		return attachment.Remove(s.root.State, a.Network, a.ID, a.Interface)
	}
	step.At("network.detach.begun")
	n, err := s.load(ctx, a.Network)
	if errors.Is(err, fs.ErrNotExist) { // removed under it: there is nothing of it left
		return attachment.Remove(s.root.State, a.Network, a.ID, a.Interface)
	}
	if err != nil {
		return err
	}
	if a.Moved {
		if err := s.table.RemovePorts(owner(a), nftPorts(a)); err != nil {
			return err
		}
	}
	req := &cni.Request{Conflist: n.Conflist, ID: a.ID, NetNS: netns, IfName: a.Interface, Ports: cniPorts(a.Ports), Plugins: a.Plugins}
	if err := s.cni().Del(ctx, req); err != nil {
		return fmt.Errorf("detach from network %s: %w", a.Network, err)
	}
	step.At("network.detach.deleted")
	_, err = s.root.Log.Commit(ctx, n.connection("disconnect", a), func(uint64) error {
		return attachment.Remove(s.root.State, a.Network, a.ID, a.Interface)
	})
	step.At("network.detach.recorded")
	return err
}

// interfaces are how many names a namespace's interfaces are looked for by, at
// least: eth0 to eth31. Names are given from the lowest that is free on.
const interfaces = 32

// All lists the connections of everybody, on all networks.
func (s *Store) All() ([]*attachment.Attachment, error) {
	networks, err := os.ReadDir(attachment.Dir(s.root.State, ""))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Opaque(err)
	}
	var all []*attachment.Attachment
	for _, n := range networks {
		some, err := attachment.List(s.root.State, n.Name())
		if err != nil {
			return all, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// Attached lists the connections of one container, or whatever has that id, on
// all networks.
func (s *Store) Attached(id string) ([]*attachment.Attachment, error) {
	networks, err := os.ReadDir(attachment.Dir(s.root.State, ""))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Opaque(err)
	}
	var all []*attachment.Attachment
	for _, n := range networks {
		// A network may have thousands of connections, one name a few: looking for
		// those by name costs the same with any number of others.
		for i := range max(interfaces, len(networks)) {
			a, err := attachment.Read(s.root.State, n.Name(), id, "eth"+strconv.Itoa(i))
			if err != nil {
				return all, err
			}
			if a != nil {
				all = append(all, a)
				break // nobody is attached to one network twice
			}
		}
	}
	slices.SortFunc(all, func(a, b *attachment.Attachment) int { return strings.Compare(a.Interface, b.Interface) })
	return all, nil
}

// Forget ends what a container left of its connections, whose supervisor was
// killed: namespace and sockets went with it.
func (s *Store) Forget(ctx context.Context, id string) error {
	all, err := s.Attached(id)
	if err != nil || len(all) == 0 {
		return err
	}
	l, err := s.lock(ctx, flock.Shared)
	if err != nil {
		return err
	}
	defer l.Release()
	for _, a := range all {
		err = errors.Join(err, s.detach(ctx, a, ""))
	}
	return err
}

// Rename gives a container's connections other names: those that its old name
// gave it are replaced.
func (s *Store) Rename(ctx context.Context, id, from, to string) error {
	l, err := s.lock(ctx, flock.Exclusive)
	if err != nil {
		return err
	}
	defer l.Release()
	all, err := s.Attached(id)
	if err != nil {
		return err
	}
	for _, a := range all {
		for i, name := range a.Names {
			if name == strings.ToLower(from) {
				a.Names[i] = strings.ToLower(to)
			}
		}
		if err := attachment.Write(s.root.State, a); err != nil {
			return err
		}
	}
	return nil
}

// Publish moves ports to a connection that has none: the one that had them
// was ended.
func (s *Store) Publish(ctx context.Context, a *attachment.Attachment, ports []attachment.Port) error {
	l, err := s.lock(ctx, flock.Shared)
	if err != nil {
		return err
	}
	defer l.Release()
	// First the file: what it says too much Reload mends, and Detach removes.
	a.Ports, a.Moved = ports, true
	if err := attachment.Write(s.root.State, a); err != nil {
		return err
	}
	step.At("network.publish.recorded")
	if err := s.table.AddPorts(owner(a), nftPorts(a)); err != nil {
		a.Ports, a.Moved = nil, false
		return errors.Join(err, attachment.Write(s.root.State, a))
	}
	return nil
}
