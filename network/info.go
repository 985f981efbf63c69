package network

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/amphora-go/amphora/internal/attachment"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/networks"
)

// Network is one network of a Root, which may be removed meanwhile. It is safe
// for concurrent use.
type Network struct {
	m        *Manager
	name, id string
}

// Name and ID are the network's; the id has 64 hex digits.
func (n *Network) Name() string { return n.name }
func (n *Network) ID() string   { return n.id }

// Remove is [Manager.Remove] of this network.
func (n *Network) Remove(ctx context.Context) error {
	if n.name == None || n.name == Host {
		return n.m.Remove(ctx, n.name)
	}
	return n.m.Remove(ctx, n.id)
}

// Inspect returns what the network is now, and who is attached.
func (n *Network) Inspect(ctx context.Context) (*Info, error) {
	if n.name == None || n.name == Host {
		return fixed(n.name), nil
	}
	net, err := n.m.look(ctx, n.name)
	if err == nil && net.ID != n.id {
		err = fault.NotExist("no such network: there is another one of that name")
	}
	if err != nil {
		return nil, fault.New("network inspect", n.name, err)
	}
	info, err := n.m.info(net)
	return info, fault.New("network inspect", n.name, err)
}

// Info is a snapshot of a network.
type Info struct {
	Name      string            `json:"name"`
	ID        string            `json:"id"`
	Created   time.Time         `json:"created,omitzero"`
	Driver    string            `json:"driver"`
	Labels    map[string]string `json:"labels,omitempty"`
	Options   map[string]string `json:"options,omitempty"`
	Subnets   []Subnet          `json:"subnets,omitempty"`
	Internal  bool              `json:"internal,omitempty"`
	Isolation string            `json:"isolation,omitempty"`
	MTU       int               `json:"mtu,omitempty"`
	Interface string            `json:"interface,omitempty"` // bridge on the host
	Attached  []Attachment      `json:"attached,omitempty"`
	Foreign   bool              `json:"foreign,omitempty"` // made by another tool: Settings.Conflists of package amphora
	Conflist  []byte            `json:"-"`                 // the CNI configuration list
	Problem   string            `json:"problem,omitempty"` // why it cannot be read; then only Name is set
}

// Builtin says whether the network always exists: None, Host and Bridge.
func (i *Info) Builtin() bool { return i.Name == None || i.Name == Host || i.Name == Bridge }

// Attachment is a namespace's connection to a network.
type Attachment struct {
	Network   string         `json:"network"`
	ID        string         `json:"id"` // of the container, or as Manager.Attach was told
	Container bool           `json:"container,omitempty"`
	Interface string         `json:"interface"`           // in the namespace
	Addresses []netip.Prefix `json:"addresses,omitempty"` // with the length of the subnet's prefix
	Gateways  []netip.Addr   `json:"gateways,omitempty"`
	MAC       string         `json:"mac,omitempty"`
	Names     []string       `json:"names,omitempty"` // that resolve to it on this network
	Aliases   []string       `json:"aliases,omitempty"`
	Priority  int            `json:"priority,omitempty"`
	Ports     []Binding      `json:"ports,omitempty"`
}

// Binding is a published port that is in force.
type Binding struct {
	Container uint16 `json:"container"`
	Protocol  string `json:"protocol"`
	Host      string `json:"host"` // address; AllHosts: every address of both families
	HostPort  uint16 `json:"hostPort"`
	Held      bool   `json:"held"` // a socket keeps the port from other processes
}

// newAttachment copies what is shown of an attachment.
func newAttachment(a *attachment.Attachment) Attachment {
	out := Attachment{Network: a.Network, ID: a.ID, Container: a.Container, Interface: a.Interface, Addresses: a.Addresses,
		Gateways: a.Gateways, MAC: a.MAC, Names: a.Names, Aliases: a.Aliases, Priority: a.Priority}
	for _, p := range a.Ports {
		b := Binding{Container: p.Container, Protocol: p.Protocol, Host: AllHosts, HostPort: p.HostPort, Held: p.Held}
		if p.Host.IsValid() {
			b.Host = p.Host.String()
		}
		out.Ports = append(out.Ports, b)
	}
	return out
}

// Attachments are the connections of one container, AllAttachments those of
// all, by id. Programs find them in container.Info.
func Attachments(s *networks.Store, id string) ([]Attachment, error) {
	all, err := s.Attached(id)
	out := make([]Attachment, 0, len(all))
	for _, a := range all {
		out = append(out, newAttachment(a))
	}
	return out, err
}

// AllAttachments are the connections of all containers, by id.
func AllAttachments(s *networks.Store) (map[string][]Attachment, error) {
	all, err := s.All()
	out := make(map[string][]Attachment, len(all))
	for _, a := range all {
		out[a.ID] = append(out[a.ID], newAttachment(a))
	}
	for _, some := range out {
		slices.SortFunc(some, func(a, b Attachment) int { return strings.Compare(a.Interface, b.Interface) })
	}
	return out, err
}

func (m *Manager) info(n *networks.Network) (*Info, error) {
	i := &Info{Name: n.Name, ID: n.ID, Created: n.Created, Driver: n.Driver, Labels: n.Labels, Options: n.Options, Internal: n.Internal,
		MTU: n.MTU, Interface: n.Bridge, Foreign: n.Foreign, Conflist: n.Conflist, Problem: n.Problem}
	if n.Open {
		i.Isolation = Routed
	}
	for _, s := range n.Subnets {
		i.Subnets = append(i.Subnets, Subnet(s))
	}
	all, err := attachment.List(m.root.State, n.Name)
	for _, a := range all {
		i.Attached = append(i.Attached, newAttachment(a))
	}
	return i, err
}

func fixedID(name string) string {
	sum := sha256.Sum256([]byte("amphora network\x00" + name))
	return hex.EncodeToString(sum[:])
}

func fixed(name string) *Info {
	driver := map[string]string{None: "null", Host: "host"}[name]
	return &Info{Name: name, ID: fixedID(name), Driver: driver}
}

// ListOptions filter a list, as Docker's filters do: values of one field are
// alternatives, fields must all match.
type ListOptions struct {
	Names    []string // a part of the name, or a pattern as of path.Match
	IDs      []string // beginnings of ids
	Drivers  []string
	Labels   []string  // "key" or "key=value", all of which must be there
	Dangling *bool     // true: nobody is attached; false: somebody is
	Before   time.Time // made before; zero: any
}

func (o *ListOptions) match(i *Info) bool {
	if o == nil {
		return true
	}
	in := func(want []string, ok func(string) bool) bool { return len(want) == 0 || slices.ContainsFunc(want, ok) }
	return in(o.Names, func(w string) bool {
		ok, _ := path.Match(w, i.Name)
		return ok || strings.Contains(i.Name, w)
	}) && in(o.IDs, func(w string) bool { return strings.HasPrefix(i.ID, w) }) &&
		in(o.Drivers, func(w string) bool { return w == i.Driver }) &&
		!slices.ContainsFunc(o.Labels, func(w string) bool {
			k, v, valued := strings.Cut(w, "=")
			have, ok := i.Labels[k]
			return !ok || valued && have != v
		}) &&
		(o.Dangling == nil || *o.Dangling == (len(i.Attached) == 0) && !i.Builtin()) &&
		(o.Before.IsZero() || !i.Created.IsZero() && i.Created.Before(o.Before))
}

// List returns the networks that match, by name. None, Host and Bridge are
// always there. Nil options list all. A network that cannot be read has its
// Problem set.
func (m *Manager) List(ctx context.Context, opts *ListOptions) ([]*Info, error) {
	all, err := m.s.List(ctx)
	if err != nil {
		return nil, fault.New("network list", "", err)
	}
	list := []*Info{fixed(None), fixed(Host)}
	if !slices.ContainsFunc(all, func(n *networks.Network) bool { return n.Name == Bridge }) {
		all = append(all, m.s.Planned()) // made on first use
	}
	for _, n := range all {
		i, err := m.info(n)
		if err != nil && i.Problem == "" {
			i.Problem = err.Error()
		}
		list = append(list, i)
	}
	list = slices.DeleteFunc(list, func(i *Info) bool { return !opts.match(i) })
	slices.SortFunc(list, func(a, b *Info) int { return strings.Compare(a.Name, b.Name) })
	return list, ctx.Err()
}
