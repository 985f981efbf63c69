package networks

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/amphora-go/amphora/internal/attachment"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/step"
)

// Create makes a network and its bridge. A name that is taken is fs.ErrExist.
// On failure nothing stays.
func (s *Store) Create(ctx context.Context, spec *Spec) (*Network, error) {
	c := *spec
	if err := c.check(); err != nil {
		return nil, err
	}
	l, err := s.lock(ctx, flock.Exclusive)
	if err != nil {
		return nil, err
	}
	defer l.Release()
	old, err := s.load(ctx, c.Name)
	switch {
	case err == nil:
		return nil, fault.Kind(fs.ErrExist, "there is a network of that name, made %s: use it, or choose another name", old.Created.Format(time.DateTime))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return s.make(ctx, &c)
}

// EnsureDefault returns the default network, made if there is none.
func (s *Store) EnsureDefault(ctx context.Context) (*Network, error) {
	n, err := s.load(ctx, Default)
	if !errors.Is(err, fs.ErrNotExist) {
		return n, err
	}
	l, err := s.lock(ctx, flock.Exclusive)
	if err != nil {
		return nil, err
	}
	defer l.Release()
	n, err = s.load(ctx, Default)
	if !errors.Is(err, fs.ErrNotExist) {
		return n, err
	}
	return s.make(ctx, &Spec{Name: Default})
}

// newID is random but for the default network, which has an id before it
// exists.
func (s *Store) newID(name string) string {
	if name != Default {
		return record.NewID()
	}
	sum := sha256.Sum256([]byte("amphora network\x00" + s.root.ID + "\x00" + name))
	return hex.EncodeToString(sum[:])
}

// Planned is the default network as it is listed before anybody used it.
func (s *Store) Planned() *Network {
	return &Network{ID: s.newID(Default), Name: Default, Driver: "bridge"}
}

// make makes a network that does not exist; the lock is held exclusively.
func (s *Store) make(ctx context.Context, spec *Spec) (*Network, error) {
	n := &Network{Version: version, ID: s.newID(spec.Name), Name: spec.Name, Created: time.Now().UTC(), Driver: spec.driver(),
		Labels: spec.Labels, Options: spec.Options, Subnets: spec.Subnets, Internal: spec.Internal, Open: spec.Open, MTU: spec.MTU}
	plugins, err := n.fromConflist(spec.Conflist)
	if err != nil {
		return nil, err
	}
	if plugins == nil {
		// Whoever chooses subnets in this network namespace does so one after
		// the other, until the bridge's route tells everybody.
		release, err := lockSubnets(ctx)
		if err != nil {
			return nil, err
		}
		defer release()
		if err := s.complete(ctx, n, spec.IPv6); err != nil {
			return nil, err
		}
		if plugins, err = n.plugins(); err != nil {
			return nil, err
		}
	}
	if n.Conflist, err = n.encode(plugins); err != nil {
		return nil, err
	}
	if err := s.cni().Validate(n.Conflist); err != nil {
		return nil, err
	}
	step.At("network.create.begun")
	if err := s.cni().Up(ctx, n.Conflist); err != nil {
		return nil, err
	}
	step.At("network.create.up")
	if err := s.reserve(n); err != nil {
		return nil, errors.Join(err, s.cni().Down(context.WithoutCancel(ctx), n.Conflist))
	}
	_, err = s.root.Log.Update(ctx, n.event("create"), s.conflist(n.Name), true, func(seq uint64) ([]byte, error) {
		n.Seq = seq
		data, err := n.encode(plugins)
		n.Conflist = data
		return data, err
	})
	if err != nil {
		return nil, errors.Join(err, s.cni().Down(context.WithoutCancel(ctx), n.Conflist))
	}
	step.At("network.create.recorded")
	return n, nil
}

// reserve keeps the addresses that no container shall get.
func (s *Store) reserve(n *Network) error {
	dir := s.dir(".reserved", n.Name)
	if err := os.RemoveAll(dir); err != nil { // of a network that was called so before
		return fault.Opaque(err)
	}
	for _, sub := range n.Subnets {
		for _, addr := range sub.Reserved {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return fault.Opaque(err)
			}
			if err := os.Symlink(keeper, filepath.Join(dir, addr.String())); err != nil && !errors.Is(err, fs.ErrExist) {
				return fault.Opaque(err)
			}
		}
	}
	return nil
}

// fromConflist takes a list that the caller wrote, as it is; nil without one.
func (n *Network) fromConflist(data []byte) ([]json.RawMessage, error) {
	if len(data) == 0 {
		return nil, nil
	}
	var l list
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, fault.Invalid("the configuration list is no JSON: %w", err)
	}
	if l.Name != "" && l.Name != n.Name {
		return nil, fault.Invalid("the configuration list is called %q, the network %q: give one name", l.Name, n.Name)
	}
	if len(l.Plugins) == 0 {
		return nil, fault.Invalid("the configuration list has no plugins")
	}
	l.Name = n.Name
	f := foreign(&l)
	n.Driver, n.Bridge, n.MTU, n.Subnets = f.Driver, f.Bridge, f.MTU, f.Subnets
	if n.Driver == "" {
		return nil, fault.Invalid("the first plugin of the configuration list has no type")
	}
	return l.Plugins, nil
}

// complete chooses what the caller left open.
func (s *Store) complete(ctx context.Context, n *Network, v6 bool) error {
	own := n.Driver == "bridge"
	if own {
		if n.Bridge = n.Options["bridge.name"]; n.Bridge == "" {
			n.Bridge = s.table.Prefix + token(6)
		}
		if n.MTU == 0 {
			n.MTU = defaultMTU()
		}
	}
	if n.Driver == "macvlan" && len(n.Subnets) == 0 {
		return fault.Invalid("a macvlan network needs the subnet of its parent interface: give it, and its gateway")
	}
	if !own && n.Driver != "macvlan" && len(n.Subnets) == 0 {
		return nil // the plugin knows
	}
	var err error
	if n.Auto = len(n.Subnets) == 0; n.Auto || v6 {
		n.Subnets, err = s.choose(ctx, n.Subnets, v6)
	}
	if err == nil && own {
		err = s.overlaps(ctx, n)
	}
	for i := range n.Subnets {
		n.IPv6 = n.IPv6 || n.Subnets[i].Prefix.Addr().Is6()
		if err == nil {
			err = n.Subnets[i].check()
		}
	}
	return err
}

// overlaps refuses a subnet that one of our other networks has.
func (s *Store) overlaps(ctx context.Context, n *Network) error {
	all, err := s.List(ctx)
	if err != nil {
		return err
	}
	for _, other := range all {
		for _, b := range other.Subnets {
			for _, a := range n.Subnets {
				if other.Driver == "bridge" && a.Prefix.Overlaps(b.Prefix) {
					return fault.Invalid("the subnet %s overlaps %s of network %s: choose another one, or leave it to be chosen", a.Prefix, b.Prefix, other.Name)
				}
			}
		}
	}
	return nil
}

func token(n int) string {
	b := make([]byte, (n+1)/2)
	rand.Read(b)
	return hex.EncodeToString(b)[:n]
}

// Remove deletes a network. The error Is fault.ErrInUse, and names who uses
// it, while anybody is attached.
func (s *Store) Remove(ctx context.Context, name string) error {
	if name == "host" || name == "none" || name == Default || name == s.newID(Default) {
		return fault.Invalid("%s is always there and cannot be removed", name)
	}
	l, err := s.lock(ctx, flock.Exclusive)
	if err != nil {
		return err
	}
	defer l.Release()
	n, err := s.Get(ctx, name)
	if err != nil {
		return err
	}
	if n.Name == Default {
		return fault.Invalid("the default network is always there and cannot be removed")
	}
	if n.Foreign {
		return fault.Invalid("another tool made this network: remove its configuration list where that tool keeps it")
	}
	_, live, err := s.judge(ctx, n.Name)
	if err != nil {
		return err
	}
	if len(live) > 0 {
		return fault.Kind(fault.ErrInUse, "%s: disconnect or stop them first", users(live))
	}
	return s.remove(ctx, n)
}

// remove deletes a network that nobody uses. From the event on it is gone: a
// bridge that a killed removal leaves belongs to no network, and GC takes it.
func (s *Store) remove(ctx context.Context, n *Network) error {
	step.At("network.remove.begun")
	_, err := s.root.Log.Commit(ctx, n.event("destroy"), func(uint64) error { return os.Remove(s.conflist(n.Name)) })
	if err != nil {
		return fault.Opaque(err)
	}
	step.At("network.remove.recorded")
	ctx = context.WithoutCancel(ctx)
	err = s.cni().GC(ctx, n.Conflist, nil)
	err = errors.Join(err, s.cni().Down(ctx, n.Conflist))
	if left, lerr := links(s.table.Prefix, s.root.ID); lerr == nil && len(left) == 0 {
		err = errors.Join(err, s.table.Drop()) // it was the last one
	}
	for _, dir := range []string{s.dir(".reserved", n.Name), attachment.Dir(s.root.State, n.Name), filepath.Join(s.root.State, "net", "leases", n.Name)} {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err != nil {
		return fault.Opaque(fmt.Errorf("the network is removed; what is left of it on this host goes with the next recovery: %w", err))
	}
	return nil
}
