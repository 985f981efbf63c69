package cni

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/nft"
	"github.com/amphora-go/amphora/internal/testenv"
)

func TestMain(m *testing.M) {
	testenv.OwnNetwork()
	testenv.Child("add", childAdd)
	testenv.Child("del", childDel)
	testenv.Child("crowd", childCrowd)
	testenv.Child("gc", childGC)
	testenv.Child("up", childUp)
	testenv.Child("plugin", childPlugin)
	testenv.Main(m)
}

// lab is a Root's worth of network state in a directory.
type lab struct {
	*CNI
	t     testing.TB
	dir   string
	id    string
	table *fakeFilter
	net   int // number that makes subnets and bridge names of this lab its own
}

var (
	labMu   sync.Mutex // guards labNext
	labNext int
)

// newLab makes a lab with a filter that only remembers.
func newLab(t testing.TB) *lab {
	t.Helper()
	testenv.Root(t)
	labMu.Lock()
	labNext++
	n := labNext
	labMu.Unlock()
	l := &lab{t: t, dir: testenv.Dir(t), id: testenv.OwnID(t), table: &fakeFilter{}, net: n}
	l.CNI = New(l.options(l.table))
	return l
}

// newRealLab has the kernel's filter. Forwarding is on, so that it is not
// sealed.
func newRealLab(t testing.TB) *lab {
	t.Helper()
	l := newLab(t)
	routing(t, "1")
	table := nft.New(l.id)
	l.CNI = New(l.options(table))
	t.Cleanup(func() {
		if err := table.Drop(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func (l *lab) options(table Filter) Options { return optionsIn(l.dir, l.id, table) }

func optionsIn(dir, id string, table Filter) Options {
	return Options{RootID: id, CacheDir: filepath.Join(dir, "net", "cache"), LeaseDir: filepath.Join(dir, "net", "leases"),
		Path: []string{filepath.Join(dir, "bin")}, Table: table}
}

// bridge is the name of the lab's bridge.
func (l *lab) bridge() string { return fmt.Sprintf("amp%s%06x", l.id[:4], l.net) }

func (l *lab) subnet4() netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf("10.77.%d.0/24", l.net))
}
func (l *lab) subnet6() netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf("fd77:%x::/64", l.net))
}

// conflist is a dual-stack network as we write them.
func (l *lab) conflist() []byte { return l.conflistWith("", "") }

// conflistWith adds fields to the bridge and plugins to the chain.
func (l *lab) conflistWith(fields, plugins string) []byte {
	return []byte(fmt.Sprintf(`{"cniVersion":"1.1.0","name":"net%d","plugins":[
 {"type":"bridge","bridge":%q,"isGateway":true,"ipMasq":true,"hairpinMode":true,%s
  "capabilities":{"ips":true,"mac":true},
  "ipam":{"type":"host-local","ranges":[[{"subnet":%q}],[{"subnet":%q}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}},
 {"type":"portmap","capabilities":{"portMappings":true}},
 {"type":"firewall","ingressPolicy":"same-bridge"},
 {"type":"bandwidth","capabilities":{"bandwidth":true}}%s]}`, l.net, l.bridge(), fields, l.subnet4(), l.subnet6(), plugins))
}

func (l *lab) network() string { return fmt.Sprintf("net%d", l.net) }

// down removes the lab's bridge when the test ends.
func (l *lab) down() {
	l.t.Cleanup(func() {
		if err := l.Down(context.Background(), l.conflist()); err != nil {
			l.t.Error(err)
		}
	})
}

// newNS makes a namespace, and returns its descriptor's path.
func newNS(t testing.TB) string {
	t.Helper()
	testenv.Root(t)
	f, err := makeNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd())
}

// makeNS makes a namespace on a thread that ends with it.
func makeNS() (*os.File, error) {
	type made struct {
		f   *os.File
		err error
	}
	done := make(chan made)
	go func() {
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- made{nil, err}
			return
		}
		defer home.Close()
		var f *os.File
		err = inNetNS(home, func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			var err error
			f, err = os.Open("/proc/thread-self/ns/net")
			return err
		})
		done <- made{f, err}
	}()
	m := <-done
	return m.f, m.err
}

// fakeFilter remembers elements like the kernel would.
type fakeFilter struct {
	mu      sync.Mutex
	bridges map[string]nft.Bridge
	owners  map[string][]nft.Port
	sealed  int
	fail    func(what string) error
}

func (f *fakeFilter) may(what string) error {
	if f.fail == nil {
		return nil
	}
	return f.fail(what)
}

func (f *fakeFilter) AddBridge(b nft.Bridge) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bridges == nil {
		f.bridges = map[string]nft.Bridge{}
	}
	f.bridges[b.Name] = b
	return f.may("AddBridge")
}

func (f *fakeFilter) RemoveBridge(b nft.Bridge) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.bridges, b.Name)
	return nil
}

func (f *fakeFilter) AddPorts(owner string, ports []nft.Port) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.may("AddPorts"); err != nil {
		return err
	}
	for other, have := range f.owners {
		for _, a := range have {
			for _, b := range ports {
				if other != owner && a.Protocol == b.Protocol && a.HostPort == b.HostPort && a.To.Addr().Is4() == b.To.Addr().Is4() {
					return fault.Kind(os.ErrExist, "port %d/%s is published by %s", b.HostPort, b.Protocol, other)
				}
			}
		}
	}
	if f.owners == nil {
		f.owners = map[string][]nft.Port{}
	}
	f.owners[owner] = append(f.owners[owner], ports...)
	return nil
}

func (f *fakeFilter) RemovePorts(owner string, _ []nft.Port) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.owners, owner)
	return f.may("RemovePorts")
}

func (f *fakeFilter) Owners() (map[string][]nft.Port, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[string][]nft.Port{}
	for owner, ports := range f.owners {
		all[owner] = ports
	}
	return all, nil
}

func (f *fakeFilter) Seal() error        { f.sealed++; return nil }
func (f *fakeFilter) PassForeign() error { return nil }

// leaseFiles lists what the lease directory of a lab's network holds, without
// the lock and the marks of the round.
func (l *lab) leaseFiles() []string {
	entries, _ := os.ReadDir(filepath.Join(l.dir, "net", "leases", l.network()))
	var names []string
	for _, e := range entries {
		if e.Name() != "lock" && !strings.HasPrefix(e.Name(), "last_reserved_ip") {
			names = append(names, e.Name())
		}
	}
	return names
}

// routing turns forwarding of the run's namespace on or off, for both families.
func routing(t testing.TB, value string) {
	t.Helper()
	for _, name := range []string{forward4, forward6} {
		if err := sysctls("/proc/sys").set(name, value); err != nil {
			t.Fatal(err)
		}
	}
}
