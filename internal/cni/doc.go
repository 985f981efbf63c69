// Package cni attaches network namespaces to networks that are described by CNI
// conflists. It drives libcni; the plugins bridge, host-local, portmap,
// firewall, loopback, bandwidth and macvlan run inside this process, all others
// are executed from the CNI path, and a conflist may mix both.
//
// A built-in plugin takes a configuration only if it knows every field of it:
// otherwise the binary of that name does the work, and where there is none the
// configuration is refused, by the name of the field. What did ADD is recorded
// (Result.Plugins, and libcni's cache) and does CHECK and DEL, because the
// traces that two implementations leave in the kernel differ.
//
// Nothing here takes the lock that keeps ADD and GC apart: that is the caller's.
package cni

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/netip"

	"github.com/amphora-go/amphora/internal/ipam"
	"github.com/amphora-go/amphora/internal/nft"
)

// Filter is what the plugins need of the packet filter; *nft.Table is one.
type Filter interface {
	AddBridge(nft.Bridge) error
	RemoveBridge(nft.Bridge) error
	AddPorts(owner string, ports []nft.Port) error
	RemovePorts(owner string, ports []nft.Port) error
	Owners() (map[string][]nft.Port, error)
	Seal() error
	PassForeign() error
}

// Options is where a CNI keeps what and which filter it writes to.
type Options struct {
	RootID   string   // 8 hex digits: marks links as those of this Root
	CacheDir string   // libcni's cache, a directory for each network; the record of changed sysctls is written beside it
	LeaseDir string   // of host-local, unless a conflist names another with dataDir
	Path     []string // directories of plugin binaries (CNI_PATH)
	Table    Filter

	// Firewall lets bridges pass that are about to be used, and forgets them.
	// Its failures fail nothing. May be nil.
	Firewall Firewall

	// Taken says whether an address is promised to somebody else than id: to a
	// container that is not running now and will want it back. May be nil.
	Taken func(network string, addr netip.Addr, id string) (bool, error)
}

// Firewall is another filter of the host that forwarded packets have to pass:
// firewalld's.
type Firewall interface {
	Trust(ctx context.Context, bridges ...string) error
	Distrust(ctx context.Context, bridges ...string) error
}

// CNI attaches and detaches. It is safe for concurrent use, in any number of
// processes, and needs no Close.
type CNI struct {
	opts   Options
	leases *ipam.Store
	proc   string // where sysctls are: /proc/sys
}

// ErrOverlap is in the error for a bridge that cannot be made since the machine
// has a route to its subnet. It Is fs.ErrInvalid.
var ErrOverlap = fmt.Errorf("subnet in use: %w", fs.ErrInvalid)

// New returns a CNI. It touches nothing.
func New(opts Options) *CNI {
	return &CNI{opts: opts, leases: ipam.Open(opts.LeaseDir), proc: "/proc/sys"}
}

// Builtin is what Result.Plugins says of a plugin that ran in this process.
const Builtin = "builtin"

// Request is one attachment.
type Request struct {
	// Conflist is the network. Del and Check go by the one that ADD was done with,
	// as long as the cache has it.
	Conflist []byte
	ID       string
	// NetNS is the path of the namespace, for example /proc/self/fd/7. Empty in
	// Del: the namespace is gone or will be, with its links, which are not touched.
	NetNS  string
	IfName string

	Addresses []netip.Addr     // demanded; at most one for each family
	Prefer    []netip.Addr     // taken if they are free
	MAC       net.HardwareAddr // nil: 02:42 and the IPv4 address
	Ports     []Port
	Bandwidth *Bandwidth
	Metric    int // of default routes; 0: the kernel's default

	Aliases      []string          // capability "aliases", for plugins that serve names
	Args         [][2]string       // CNI_ARGS
	Capabilities map[string]any    // further capability arguments
	Plugins      map[string]string // Del, Check: what did ADD, by type; nil: as the cache says, else decided anew
}

// Port is a port to publish.
type Port struct {
	Protocol  string     // tcp, udp, sctp
	Host      netip.Addr // zero: every address
	HostPort  uint16
	Container uint16
}

// Bandwidth limits an attachment, as seen from the container: ingress is what
// it receives. Rates are in bits for each second, bursts in bits; a zero rate is
// no limit, a zero burst a hundredth of the rate but at least 256 KiB.
type Bandwidth struct {
	IngressRate, IngressBurst, EgressRate, EgressBurst uint64
}

// Result is what an attachment has.
type Result struct {
	IfName, HostLink string // HostLink: the host's end, empty where there is none
	MAC              net.HardwareAddr
	Addresses        []netip.Prefix
	Gateways         []netip.Addr
	Plugins          map[string]string // type -> Builtin or the path of the binary
	Raw              []byte            // the CNI result, JSON
}

// Key is an attachment of a network.
type Key = ipam.Key
