package networks

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/amphora-go/amphora/internal/attachment"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/proc"
)

// NextMetric is that of the default routes by the next interface of a
// namespace: behind those of the ones it has, whose routes win while they last.
func NextMetric(have []*attachment.Attachment) int {
	next := 0
	for _, a := range have {
		next = max(next, a.Metric+100)
	}
	return next
}

// FreeInterface is the first name of an interface that is not taken.
func FreeInterface(have []*attachment.Attachment) string {
	for i := 0; ; i++ {
		name := "eth" + strconv.Itoa(i)
		if !slices.ContainsFunc(have, func(a *attachment.Attachment) bool { return a.Interface == name }) {
			return name
		}
	}
}

// Served is a name on a network that a process of the host answers for.
type Served struct {
	Gateways []netip.Addr // to listen on

	s    *Store
	a    *attachment.Attachment
	lock *flock.Lock
	once sync.Once
}

// Serve gives the network's gateway a name there. The name goes with the
// process at the latest.
func (s *Store) Serve(ctx context.Context, network, name string) (*Served, error) {
	l, err := s.lock(ctx, flock.Exclusive)
	if err != nil {
		return nil, err
	}
	defer l.Release()
	n, err := s.Get(ctx, network)
	if err != nil {
		return nil, err
	}
	if n.Driver != "bridge" {
		return nil, fault.Unsupported("the driver %s has no address of the host on the network: use a bridge network", n.Driver)
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	all, err := attachment.List(s.root.State, n.Name)
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		if name != "" && a.Container && slices.Contains(a.Names, name) {
			return nil, fault.Kind(fs.ErrExist, "the name %q is taken by %s", name, who(a))
		}
	}
	if err := s.cni().Up(ctx, n.Conflist); err != nil {
		return nil, err
	}
	out := &Served{s: s}
	a := &attachment.Attachment{Network: n.Name, ID: "host-" + token(12), Interface: n.Bridge, Since: time.Now().UTC()}
	for _, sub := range n.Subnets {
		out.Gateways = append(out.Gateways, sub.Gateway)
		a.Addresses = append(a.Addresses, netip.PrefixFrom(sub.Gateway, sub.Prefix.Bits()))
	}
	if name != "" {
		a.Names = []string{name}
	}
	a.LockFile = filepath.Join(s.root.State, "net", "serving", a.ID)
	if err := os.MkdirAll(filepath.Dir(a.LockFile), 0o700); err != nil {
		return nil, fault.Opaque(err)
	}
	if out.lock, err = flock.Acquire(ctx, a.LockFile, flock.Exclusive); err != nil {
		return nil, fault.Opaque(err)
	}
	out.a = a
	if a.Boot, err = proc.BootID(); err == nil {
		a.HostNS, err = proc.NamespaceInode("net")
	}
	if err == nil {
		err = attachment.Write(s.root.State, a)
	}
	if err != nil {
		return nil, errors.Join(fault.Opaque(err), out.Close())
	}
	return out, nil
}

// Close takes the name off the network. It is idempotent.
func (v *Served) Close() (err error) {
	v.once.Do(func() {
		err = attachment.Remove(v.s.root.State, v.a.Network, v.a.ID, v.a.Interface)
		os.Remove(v.a.LockFile)
		err = errors.Join(err, v.lock.Release())
	})
	return err
}
