package networks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/journal"
)

const version = 1

// Network is what Root knows of a network: the "amphora" part of its conflist,
// and the list itself. A snapshot, never changed after it was written.
type Network struct {
	Version  int               `json:"version"`
	Seq      uint64            `json:"seq"`
	ID       string            `json:"id"` // 64 hex digits
	Name     string            `json:"name"`
	Created  time.Time         `json:"created"`
	Driver   string            `json:"driver"` // type of the first plugin
	Labels   map[string]string `json:"labels,omitempty"`
	Options  map[string]string `json:"options,omitempty"`
	Subnets  []Subnet          `json:"subnets,omitempty"`
	Auto     bool              `json:"auto,omitempty"` // the subnets were chosen by us
	Internal bool              `json:"internal,omitempty"`
	Open     bool              `json:"open,omitempty"` // not isolated from other open networks
	IPv6     bool              `json:"ipv6,omitempty"`
	MTU      int               `json:"mtu,omitempty"`
	Bridge   string            `json:"bridge,omitempty"` // interface on the host

	Foreign  bool   `json:"-"` // another tool made it
	Problem  string `json:"-"` // why it cannot be read; then only Name is set
	Conflist []byte `json:"-"`
}

// Subnet is a range of addresses of a network.
type Subnet struct {
	Prefix   netip.Prefix `json:"prefix"`
	Gateway  netip.Addr   `json:"gateway,omitzero"`
	Range    netip.Prefix `json:"range,omitzero"`     // where addresses are taken from; zero: all of Prefix
	Reserved []netip.Addr `json:"reserved,omitempty"` // never given to a container that does not ask for them
}

// Names says whether the resolver answers names on this network.
func (n *Network) Names() bool { return n.Name != Default }

// event makes a network's event with the attributes Docker gives it.
func (n *Network) event(action string) journal.Event {
	attrs := map[string]string{}
	for k, v := range n.Labels {
		attrs[k] = v
	}
	attrs["name"], attrs["type"] = n.Name, n.Driver
	return journal.Event{Type: "network", Action: action, ID: n.ID, Attributes: attrs}
}

// list is a conflist as far as it matters here.
type list struct {
	CNIVersion string            `json:"cniVersion"`
	Name       string            `json:"name"`
	Plugins    []json.RawMessage `json:"plugins"`
	Amphora    *Network          `json:"amphora,omitempty"`
}

const cniVersion = "1.1.0"

func (n *Network) encode(plugins []json.RawMessage) ([]byte, error) {
	data, err := json.Marshal(list{CNIVersion: cniVersion, Name: n.Name, Plugins: plugins, Amphora: n})
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, data, "", "\t"); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// decode reads a conflist, ours or another tool's.
func decode(path string, data []byte) (*Network, error) {
	var l list
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, fault.Opaque(errors.New(path + " is damaged: " + err.Error()))
	}
	if l.Name == "" || len(l.Plugins) == 0 {
		return nil, fault.Invalid("%s is no CNI configuration list: it has no name or no plugins", path)
	}
	n := l.Amphora
	if n == nil {
		n = foreign(&l)
	}
	if n.Version > version {
		return nil, fault.Unsupported("%s has format version %d, this program knows up to %d: update the program", path, n.Version, version)
	}
	if n.Name != l.Name {
		return nil, fault.Opaque(errors.New(path + " is damaged: its two names differ"))
	}
	n.Conflist = data
	return n, nil
}

// foreign reads what can be read of a list that another tool wrote.
func foreign(l *list) *Network {
	sum := sha256.Sum256([]byte("amphora conflist\x00" + l.Name))
	n := &Network{Name: l.Name, ID: hex.EncodeToString(sum[:]), Foreign: true}
	var first struct {
		Type   string `json:"type"`
		Bridge string `json:"bridge"`
		MTU    int    `json:"mtu"`
		IPAM   struct {
			Subnet string `json:"subnet"`
			Ranges [][]struct {
				Subnet  string `json:"subnet"`
				Gateway string `json:"gateway"`
			} `json:"ranges"`
		} `json:"ipam"`
	}
	if json.Unmarshal(l.Plugins[0], &first) != nil {
		return n
	}
	n.Driver, n.Bridge, n.MTU = first.Type, first.Bridge, first.MTU
	if p, err := netip.ParsePrefix(first.IPAM.Subnet); err == nil {
		n.Subnets = append(n.Subnets, Subnet{Prefix: p})
	}
	for _, r := range slices.Concat(first.IPAM.Ranges...) {
		if p, err := netip.ParsePrefix(r.Subnet); err == nil {
			gw, _ := netip.ParseAddr(r.Gateway)
			n.Subnets = append(n.Subnets, Subnet{Prefix: p, Gateway: gw})
		}
	}
	return n
}

// Get returns the network with that name, id, or unique beginning of an id.
// fs.ErrNotExist if there is none; the default network exists once somebody
// used it.
func (s *Store) Get(ctx context.Context, ref string) (*Network, error) {
	if ref == "" {
		return nil, fault.Invalid("the network's name is empty")
	}
	n, err := s.load(ctx, ref)
	if !errors.Is(err, fs.ErrNotExist) {
		return n, err
	}
	all, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	var found []*Network
	for _, n := range all {
		if n.Problem == "" && strings.HasPrefix(n.ID, ref) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return nil, fault.NotExist("no such network")
	case 1:
		return found[0], nil
	}
	return nil, fault.Invalid("%d networks have ids that begin with %q: give more digits", len(found), ref)
}

// load reads the network of that name.
func (s *Store) load(ctx context.Context, name string) (*Network, error) {
	if checkName(name) != nil {
		return nil, fault.NotExist("no such network")
	}
	path := s.conflist(name)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && s.settle(ctx, name) == nil {
		data, err = os.ReadFile(path)
	}
	if err == nil {
		return decode(path, data)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, trouble("read the network", err)
	}
	others, err := s.others()
	if err != nil {
		return nil, err
	}
	for _, n := range others {
		if n.Name == name {
			return n, nil
		}
	}
	return nil, fault.NotExist("no such network")
}

// List returns all networks, by name. One that cannot be read has Problem set.
func (s *Store) List(ctx context.Context) ([]*Network, error) {
	entries, err := os.ReadDir(s.dir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, trouble("read the directory of networks", err)
	}
	var all []*Network
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".conflist.next"); ok {
			if err := s.settle(ctx, name); err != nil {
				return nil, err
			}
		}
		name, ok := strings.CutSuffix(e.Name(), ".conflist")
		if !ok || strings.HasPrefix(name, ".") {
			continue
		}
		data, err := os.ReadFile(s.conflist(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone since
		}
		var n *Network
		if err == nil {
			n, err = decode(s.conflist(name), data)
		}
		if err != nil {
			n = &Network{Name: name, Problem: err.Error()}
		}
		all = append(all, n)
	}
	others, err := s.others()
	for _, n := range others {
		if !slices.ContainsFunc(all, func(o *Network) bool { return o.Name == n.Name }) {
			all = append(all, n)
		}
	}
	slices.SortFunc(all, func(a, b *Network) int { return strings.Compare(a.Name, b.Name) })
	return all, err
}

// settle finishes or drops what a killed Create left of a network.
func (s *Store) settle(ctx context.Context, name string) error {
	path := s.conflist(name)
	data, err := os.ReadFile(path + ".next")
	if err != nil {
		return nil // none, or its writer lived
	}
	n, err := decode(path, data)
	if err != nil {
		n = new(Network) // torn: it was never logged
	}
	return s.root.Log.Settle(ctx, path, n.ID, func(data []byte) (uint64, error) {
		n, err := decode(path, data)
		if err != nil {
			return 0, err
		}
		return n.Seq, nil
	})
}

// others are the networks that other tools made. Files that are no conflists
// are none of our business.
func (s *Store) others() ([]*Network, error) {
	var all []*Network
	for _, dir := range s.settings().Conflists {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return all, trouble("read the networks of "+dir, err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if filepath.Ext(path) != ".conflist" {
				continue
			}
			data, err := os.ReadFile(path)
			if err != nil {
				continue
			}
			if n, err := decode(path, data); err == nil {
				n.Foreign = true
				all = append(all, n)
			}
		}
	}
	return all, nil
}
