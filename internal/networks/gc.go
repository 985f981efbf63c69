package networks

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/amphora-go/amphora/internal/attachment"
	"github.com/amphora-go/amphora/internal/cni"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/nft"
	"github.com/amphora-go/amphora/internal/proc"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/hashicorp/go-multierror"
)

func owner(a *attachment.Attachment) string { return a.Network + "/" + a.ID + "/" + a.Interface }

// nftPorts are the published ports of a connection, as the filter has them.
func nftPorts(a *attachment.Attachment) []nft.Port {
	var all []nft.Port
	for _, p := range a.Ports {
		for _, addr := range a.Addresses {
			if !p.Host.IsValid() || p.Host.Is4() == addr.Addr().Is4() {
				all = append(all, nft.Port{Protocol: p.Protocol, Host: p.Host, HostPort: p.HostPort, To: netip.AddrPortFrom(addr.Addr(), p.Container)})
			}
		}
	}
	return all
}

// who names an attachment's holder in messages.
func who(a *attachment.Attachment) string {
	if a.Container {
		name := record.Short(a.ID)
		if len(a.Names) > 0 {
			name = a.Names[0] + " (" + name + ")"
		}
		return "container " + name
	}
	return a.ID
}

func users(all []*attachment.Attachment) string {
	var names []string
	for _, a := range all {
		if name := who(a); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) > 5 {
		names = append(names[:5], "others")
	}
	return strings.Join(names, ", ") + " " + map[bool]string{true: "is", false: "are"}[len(names) == 1] + " attached"
}

// judge sorts a network's connections into those whose namespace is gone and
// those that live. The lock is held exclusively: none is being made.
func (s *Store) judge(ctx context.Context, network string) (dead, live []*attachment.Attachment, err error) {
	all, err := attachment.List(s.root.State, network)
	if err != nil {
		return nil, nil, err
	}
	boot, err := proc.BootID()
	if err != nil {
		return nil, nil, fault.Opaque(err)
	}
	hostns, err := proc.NamespaceInode("net")
	if err != nil {
		return nil, nil, fault.Opaque(err)
	}
	for _, a := range all {
		ok := a.Boot == boot && a.HostNS == hostns
		if ok {
			if ok, err = s.lives(a); err != nil {
				return nil, nil, err
			}
		}
		if ok {
			live = append(live, a)
		} else {
			dead = append(dead, a)
		}
	}
	return dead, live, ctx.Err()
}

func (s *Store) lives(a *attachment.Attachment) (bool, error) {
	switch {
	case a.LockFile != "":
		held, err := flock.Held(a.LockFile)
		return held, fault.Opaque(err)
	case a.Container:
		held, err := flock.Held(s.root.Path(a.ID, "alive"))
		return held, fault.Opaque(err)
	}
	ino, err := inode(a.Path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return false, nil
	}
	return ino == a.NetNS, err
}

// GC takes back what killed processes left on the host: connections whose
// namespace is gone, leases, elements of the filter and bridges of no network.
// Live connections are not touched.
func (s *Store) GC(ctx context.Context) error {
	if _, err := os.Stat(s.dir()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	l, err := s.lock(ctx, flock.Exclusive)
	if err != nil {
		return err
	}
	defer l.Release()
	all, err := s.List(ctx)
	if err != nil {
		return err
	}
	var errs *multierror.Error
	owners := map[string]bool{}
	bridges := map[string]bool{}
	for _, n := range all {
		if n.Problem != "" {
			errs = multierror.Append(errs, errors.New(n.Problem))
			return errs // what belongs to whom cannot be said
		}
		dead, live, err := s.judge(ctx, n.Name)
		if err != nil {
			return err
		}
		bridges[n.Bridge] = true
		for _, a := range dead {
			errs = multierror.Append(errs, s.detach(ctx, a, ""))
		}
		keys := make([]cni.Key, 0, len(live))
		for _, a := range live {
			keys, owners[owner(a)] = append(keys, cni.Key{ID: a.ID, IfName: a.Interface}), true
		}
		step.At("network.gc.judged")
		errs = multierror.Append(errs, s.cni().GC(ctx, n.Conflist, keys))
	}
	errs = multierror.Append(errs, s.orphans(all, owners, bridges), s.sweepPromises())
	return errs.ErrorOrNil()
}

// orphans removes what is ours on the host and belongs to no network.
func (s *Store) orphans(all []*Network, owners, bridges map[string]bool) error {
	var errs *multierror.Error
	have, err := s.table.Owners()
	errs = multierror.Append(errs, err)
	for o := range have {
		if !owners[o] {
			errs = multierror.Append(errs, s.table.RemovePorts(o, nil))
		}
	}
	links, err := links(s.table.Prefix, s.root.ID)
	errs = multierror.Append(errs, err)
	for _, link := range links {
		if bridges[link] {
			continue
		}
		errs = multierror.Append(errs, s.table.RemoveBridge(nft.Bridge{Name: link}), RemoveLink(link))
		s.bus.Distrust(context.Background(), link) // tidiness: no link has that name again
	}
	known := map[string]bool{}
	for _, n := range all {
		known[n.Name] = true
	}
	for _, dir := range []string{s.dir(".reserved"), filepath.Join(s.root.State, "net", "attached"), filepath.Join(s.root.State, "net", "leases")} {
		entries, _ := os.ReadDir(dir) // most often there is none
		for _, e := range entries {
			if !known[e.Name()] && !strings.HasPrefix(e.Name(), ".") {
				errs = multierror.Append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
			}
		}
	}
	return errs.ErrorOrNil()
}

// Reload makes bridges and packet filter again as they should be, after
// somebody flushed them. Running containers keep their addresses.
func (s *Store) Reload(ctx context.Context) error {
	l, err := s.lock(ctx, flock.Exclusive)
	if err != nil {
		return err
	}
	defer l.Release()
	all, err := s.List(ctx)
	if err != nil {
		return err
	}
	var bridges []nft.Bridge
	ports := map[string][]nft.Port{}
	var errs *multierror.Error
	for _, n := range all {
		if n.Problem != "" {
			errs = multierror.Append(errs, errors.New(n.Problem))
			continue
		}
		_, live, err := s.judge(ctx, n.Name)
		if err != nil {
			return err
		}
		b, ok, err := s.cni().BridgeOf(n.Conflist)
		if err != nil {
			errs = multierror.Append(errs, err)
		}
		if !ok || n.Foreign && len(live) == 0 {
			continue
		}
		bridges = append(bridges, b)
		for _, a := range live {
			if p := nftPorts(a); len(p) > 0 {
				ports[owner(a)] = p
			}
		}
	}
	errs = multierror.Append(errs, s.table.Reset(bridges, ports))
	for _, n := range all {
		if n.Problem == "" && !n.Foreign {
			errs = multierror.Append(errs, s.cni().Up(ctx, n.Conflist))
		}
	}
	return errs.ErrorOrNil()
}

// Idle takes bridges and packet filter away when nobody is attached and no
// program works with this Root: the next attachment makes them again.
func (s *Store) Idle(ctx context.Context) error {
	if _, err := os.Stat(s.dir()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	open, err := flock.Try(s.inUse(), flock.Exclusive)
	if errors.Is(err, flock.ErrHeld) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return trouble("lock the networks", err)
	}
	defer open.Release()
	l, err := flock.Try(s.dir(".lock"), flock.Exclusive)
	if errors.Is(err, flock.ErrHeld) {
		return nil // somebody attaches, who is not idle
	}
	if err != nil {
		return trouble("lock the networks", err)
	}
	defer l.Release()
	all, err := s.List(ctx)
	if err != nil {
		return err
	}
	for _, n := range all {
		if _, live, err := s.judge(ctx, n.Name); err != nil || len(live) > 0 {
			return err
		}
	}
	step.At("network.idle.judged")
	var errs *multierror.Error
	for _, n := range all {
		if n.Problem == "" && !n.Foreign {
			errs = multierror.Append(errs, s.cni().Down(ctx, n.Conflist))
		}
	}
	errs = multierror.Append(errs, s.orphans(all, nil, nil), s.table.Drop())
	return errs.ErrorOrNil()
}
