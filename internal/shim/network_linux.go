package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/attachment"
	"github.com/amphora-go/amphora/internal/cni"
	"github.com/amphora-go/amphora/internal/dns"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/networks"
	"github.com/amphora-go/amphora/internal/ports"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/step"
	"golang.org/x/sys/unix"
)

// wires are what a container's own network namespace hangs on. They live as
// long as the supervisor: the container keeps its addresses and ports over
// restarts by its policy.
type wires struct {
	store *networks.Store
	held  *ports.Held                  // nil: no published ports
	reach atomic.Pointer[[]netip.Addr] // of the container, for what arrives at held

	mu       sync.Mutex               // guards what follows, held over connects and disconnects
	attached []*attachment.Attachment // first the one whose default route wins
	dns      *dns.Server              // nil: on no network that has one
	old      map[string][]netip.Addr  // addresses of the last start, by network
}

// wireLimit bounds what attaching and detaching wait for: locks, which nobody
// holds for long, and plugins.
const wireLimit = time.Minute

func wiring() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), wireLimit)
}

// wire reserves the published ports and makes the namespace. Networks are
// attached by attachAll.
func (s *shim) wire() error {
	if !s.c.Wired() {
		return nil
	}
	w := &wires{store: networks.Open(s.root)}
	s.wires = w
	if len(s.c.Ports) > 0 {
		held, err := ports.Hold(context.Background(), wants(s.c.Ports))
		if err != nil {
			return s.namePortHolder(err)
		}
		w.held = held
		step.At("start.ports")
	}
	var err error
	if s.netns, err = newNetNS(); err != nil {
		return err
	}
	return cni.Loopback(s.netnsPath())
}

// newNetNS makes a network namespace that lives as long as its descriptor.
func newNetNS() (*os.File, error) {
	type result struct {
		f   *os.File
		err error
	}
	done := make(chan result, 1)
	go func() {
		goruntime.LockOSThread() // for ever: the thread goes with the goroutine
		if unix.Gettid() == unix.Getpid() {
			done <- result{err: errors.New("a network namespace was to be made on the main thread")}
			return
		}
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- result{err: os.NewSyscallError("unshare(CLONE_NEWNET)", err)}
			return
		}
		files, err := openOne("/proc/thread-self/ns/net", unix.O_RDONLY)
		if err != nil {
			done <- result{err: err}
			return
		}
		done <- result{f: files[0]}
	}()
	r := <-done
	return r.f, r.err
}

func (s *shim) netnsPath() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.netns.Fd()) }

// attachAll connects the namespace to the container's networks and starts the
// resolver.
func (s *shim) attachAll() error {
	w := s.wires
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.readOld(s)
	order := slices.Clone(s.c.Networks)
	slices.SortStableFunc(order, func(a, b record.Endpoint) int { return b.Priority - a.Priority })
	for i := range order {
		if err := s.attachOne(&order[i]); err != nil {
			return err
		}
	}
	w.writeOld(s)
	step.At("start.attached")
	return s.resolve()
}

// attachOne connects the namespace to one network. The first that is routed
// gets the published ports.
func (s *shim) attachOne(e *record.Endpoint) error {
	w, c := s.wires, s.current()
	want := &networks.Want{Endpoint: *e, ID: c.ID, Container: true, NetNS: s.netnsPath(), Interface: networks.FreeInterface(w.attached),
		Metric: networks.NextMetric(w.attached), Prefer: w.old[e.Network]}
	want.Names = append([]string{c.Name, record.Short(c.ID), s.cfg.Files.Hostname}, e.Aliases...)
	if w.held != nil && w.publisher() == nil && s.routed(e.Network) {
		want.Ports = w.held.Bound()
	}
	ctx, done := wiring()
	defer done()
	a, err := w.store.Attach(ctx, want)
	if err != nil {
		return err
	}
	w.attached = append(w.attached, a)
	return nil
}

// publisher is the connection that has the published ports.
func (w *wires) publisher() *attachment.Attachment {
	for _, a := range w.attached {
		if len(a.Ports) > 0 {
			return a
		}
	}
	return nil
}

// routed says whether ports can be published on a network.
func (s *shim) routed(network string) bool {
	if network == networks.Default {
		return true // it may not exist yet
	}
	n, err := s.wires.store.Get(context.Background(), network)
	return err == nil && !n.Internal && n.Driver == "bridge"
}

// resolve gives the resolver the networks there are now, and writes hosts.
func (s *shim) resolve() error {
	w := s.wires
	w.aim()
	var nets []dns.Network
	for _, a := range w.attached {
		n, err := w.store.Get(context.Background(), a.Network)
		if err != nil {
			return fault.Opaque(err)
		}
		nets = append(nets, dns.Network{Name: n.Name, Names: n.Names(), Forward: !n.Internal})
	}
	var err error
	switch {
	case w.dns != nil:
		w.dns.SetNetworks(nets)
	case len(nets) > 0:
		f := &s.cfg.Files
		var up dns.Upstream
		if up, err = upstream(f); err != nil {
			return err
		}
		w.dns, err = dns.Listen(s.netns, &dns.Config{State: s.root.State, Networks: nets, Upstream: up})
	}
	if err != nil {
		return err
	}
	return s.writeHosts()
}

// unwire gives ports, names and addresses back. The namespace itself, and the
// cables with it, go once nobody is in it.
func (s *shim) unwire() error {
	w := s.wires
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	ctx, done := wiring()
	defer done()
	var errs error
	if w.dns != nil { // its sockets keep the namespace
		errs = errors.Join(errs, w.dns.Close())
		w.dns = nil
	}
	for _, a := range w.attached {
		errs = errors.Join(errs, w.store.Detach(ctx, a, ""))
	}
	if w.held != nil {
		errs = errors.Join(errs, w.held.Close())
		w.held = nil
	}
	if s.netns != nil {
		errs = errors.Join(errs, s.netns.Close())
	}
	return errs
}

// cut removes the cables of a namespace that others still use: what was
// detached may be somebody else's address by now.
func (s *shim) cut() {
	if s.wires == nil {
		return
	}
	for _, a := range s.wires.attached {
		if a.HostLink != "" {
			networks.RemoveLink(a.HostLink) // gone already, as a rule
		}
	}
}

// connect attaches the running container to a further network.
func (s *shim) connect(e *record.Endpoint) error {
	if s.wires == nil || e == nil {
		return fault.Invalid("the container has no network of its own (it runs with %q): create it with one", s.c.Network)
	}
	w := s.wires
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.attached {
		if a.Network == e.Network {
			return fault.Kind(os.ErrExist, "the container is attached to network %s already", e.Network)
		}
	}
	if err := s.attachOne(e); err != nil {
		return err
	}
	if err := s.resolve(); err != nil {
		return errors.Join(err, s.detachLast())
	}
	w.writeOld(s)
	return nil
}

func (s *shim) detachLast() error {
	w := s.wires
	ctx, done := wiring()
	defer done()
	last := len(w.attached) - 1
	a := w.attached[last]
	w.attached = w.attached[:last]
	return errors.Join(w.store.Detach(ctx, a, s.netnsPath()), s.resolve())
}

// disconnect ends one connection of the running container. Published ports
// move to another one that is routed, if there is any.
func (s *shim) disconnect(network string) error {
	w := s.wires
	if w == nil {
		return fault.Invalid("the container has no network of its own (it runs with %q)", s.c.Network)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.attached, func(a *attachment.Attachment) bool { return a.Network == network })
	if i < 0 {
		return fault.NotExist("the container is not attached to network %s", network)
	}
	ctx, done := wiring()
	defer done()
	a := w.attached[i]
	if err := w.store.Detach(ctx, a, s.netnsPath()); err != nil {
		return err
	}
	w.attached = slices.Delete(w.attached, i, i+1)
	errs := s.resolve()
	if len(a.Ports) == 0 {
		return errs
	}
	for _, b := range w.attached {
		if s.routed(b.Network) {
			errs = errors.Join(errs, w.store.Publish(ctx, b, a.Ports))
			w.aim()
			return errs
		}
	}
	return errs
}

// oldAddresses is the file with the addresses of the last start: a restarted
// container gets them again where they are free.
func (s *shim) oldAddresses() string { return s.root.Path(s.c.ID, "addresses.json") }

func (w *wires) readOld(s *shim) {
	data, err := os.ReadFile(s.oldAddresses())
	if err != nil || json.Unmarshal(data, &w.old) != nil {
		w.old = nil // other addresses do as well
	}
}

func (w *wires) writeOld(s *shim) {
	if s.c.AutoRemove {
		return
	}
	now := map[string][]netip.Addr{}
	for _, a := range w.attached {
		for _, p := range a.Addresses {
			now[a.Network] = append(now[a.Network], p.Addr())
		}
	}
	atomicfile.WriteJSON(s.oldAddresses(), now, 0o600, false)
}

// gateway is what host-gateway means: this host, as the container reaches it.
func (w *wires) gateway() string {
	if w == nil {
		return "127.0.0.1" // of the host's own network
	}
	for _, a := range w.attached {
		for _, g := range a.Gateways {
			if g.IsValid() {
				return g.String()
			}
		}
	}
	return ""
}

// ownNames are the lines of /etc/hosts with the container's addresses.
func (w *wires) ownNames(hostname, domain string) string {
	if w == nil {
		return ""
	}
	names := hostname
	if domain != "" {
		names = hostname + "." + domain + " " + hostname
	}
	var b strings.Builder
	for _, a := range w.attached {
		for _, p := range a.Addresses {
			fmt.Fprintf(&b, "%s\t%s\n", p.Addr(), names)
		}
	}
	return b.String()
}
