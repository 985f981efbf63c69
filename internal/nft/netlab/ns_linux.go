package netlab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/testenv"
)

// NS is a network namespace. It lives as long as the test.
type NS struct {
	Name string
	t    testing.TB
	file *os.File
	h    *netlink.Handle
}

// New makes a namespace with its loopback interface up.
func New(t testing.TB, name string) *NS {
	t.Helper()
	testenv.Root(t)
	n := &NS{Name: name, t: t}
	err := thread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			n.file, err = os.Open("/proc/thread-self/ns/net")
		}
		return err
	})
	if err != nil {
		t.Fatalf("make namespace %s: %v", name, err)
	}
	n.open()
	n.Up("lo")
	// No address waits to be found free, and none comes of itself but
	// link-local ones.
	n.Sysctl("net/ipv6/conf/default/accept_dad", "0")
	n.Sysctl("net/ipv6/conf/default/accept_ra", "0")
	return n
}

// Open is a namespace that there is, such as /proc/123/ns/net, or for an empty
// path that of the calling thread. It is used as it is found.
func Open(t testing.TB, name, path string) *NS {
	t.Helper()
	testenv.Root(t)
	if path == "" {
		path = "/proc/thread-self/ns/net"
	}
	n := &NS{Name: name, t: t}
	var err error
	n.file, err = os.Open(path)
	n.must(err, "open")
	n.open()
	return n
}

func (n *NS) open() {
	n.t.Helper()
	n.t.Cleanup(func() { n.file.Close() })
	var err error
	n.h, err = netlink.NewHandleAt(netns.NsHandle(n.FD()), unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
	n.must(err, "netlink")
	n.t.Cleanup(n.h.Close)
}

// thread runs f on a thread of its own, which ends with it. The main thread
// would not end but be parked, and show its namespaces as the process's.
func thread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			done <- thread(f)
			runtime.UnlockOSThread()
			return
		}
		done <- f()
	}()
	return <-done
}

// FD is the descriptor of the namespace.
func (n *NS) FD() int { return int(n.file.Fd()) }

// Do runs f inside, on a thread that ends with it: sockets that f opens belong
// to the namespace for good.
func (n *NS) Do(f func() error) error {
	return thread(func() error {
		if err := unix.Setns(n.FD(), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// Sysctl writes a file below /proc/sys.
func (n *NS) Sysctl(name, value string) {
	n.t.Helper()
	if err := n.TrySysctl(name, value); err != nil {
		n.t.Fatalf("%s: %v", n.Name, err)
	}
}

// TrySysctl is Sysctl for what a kernel may lack.
func (n *NS) TrySysctl(name, value string) error {
	return n.Do(func() error { return os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0) })
}

// Link finds an interface.
func (n *NS) Link(name string) netlink.Link {
	n.t.Helper()
	l, err := n.h.LinkByName(name)
	n.must(err, "find "+name)
	return l
}

// Up turns an interface on.
func (n *NS) Up(name string) {
	n.t.Helper()
	n.must(n.h.LinkSetUp(n.Link(name)), "set up "+name)
}

// Addr gives an interface addresses, such as "10.0.0.1/24", usable at once.
func (n *NS) Addr(link string, addrs ...string) {
	n.t.Helper()
	for _, s := range addrs {
		a, err := netlink.ParseAddr(s)
		n.must(err, s)
		a.Flags = unix.IFA_F_NODAD
		if err := n.h.AddrAdd(n.Link(link), a); !errors.Is(err, unix.EEXIST) {
			n.must(err, "add address "+s)
		}
	}
}

// Route adds a route by way of a gateway; dst may be "default".
func (n *NS) Route(dst, via string) {
	n.t.Helper()
	gw := netip.MustParseAddr(via)
	r := &netlink.Route{Gw: gw.AsSlice()}
	if dst != "default" {
		ipnet, err := netlink.ParseIPNet(dst)
		n.must(err, dst)
		r.Dst = ipnet
	}
	n.must(n.h.RouteAdd(r), fmt.Sprintf("add route %s via %s", dst, via))
}

// Netlink asks this namespace for anything else.
func (n *NS) Netlink() *netlink.Handle { return n.h }

func (n *NS) must(err error, what string) {
	n.t.Helper()
	if err != nil {
		n.t.Fatalf("%s: %s: %v", n.Name, what, err)
	}
}

// Join connects two namespaces by a veth pair, both ends up.
func Join(a *NS, aLink string, b *NS, bLink string) {
	a.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = aLink
	a.must(a.h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: bLink, PeerNamespace: netlink.NsFd(b.FD())}), "join with "+b.Name)
	a.Up(aLink)
	b.Up(bLink)
}
