// Package dns is the resolver that a container finds at 127.0.0.11: it answers
// the names of the containers on its networks, and passes everything else on.
//
// One server runs in each container's supervisor, so what matters most is what
// an idle one costs: two sockets and two parked goroutines. Names are read when
// the first query comes and given up when none came for a while; sockets to
// upstream servers come and go in the same way. Who attaches a container thus
// wakes nobody up, and a name is visible to the next query after its file is in
// place: each query first takes in what inotify has to tell.
//
// Rules that it answers by:
//
//   - A name of a container (its name, id, host name, aliases) is known on each
//     network that answers names, alone or as NAME.NETWORK. The first network
//     in order that has addresses of the type asked for gives all of them, in
//     turning order.
//   - A known name is never asked upstream. Without an address of the type it
//     has an empty answer, not "no such name", for resolvers take the latter
//     for both types.
//   - An unknown name is passed on if any of the networks forwards. If none
//     does it does not exist (NXDOMAIN). Docker answers SERVFAIL there, which
//     stub resolvers take for a fault that passes: they ask again, and do not
//     try their next search domain.
//   - If names are to be passed on and there is no server: SERVFAIL.
package dns

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
)

// Config is what a server needs to know.
type Config struct {
	State    string    // the Root's directory of state: names are in attachment.Dir(State, network)
	Networks []Network // of the container, the one whose names win first
	Upstream Upstream
}

// Network is a network as its containers' resolvers see it.
type Network struct {
	Name    string
	Names   bool // answer the names of its containers: user-made networks
	Forward bool // pass on other names: all but internal networks
}

// Upstream is who is asked for names that are not ours.
type Upstream struct {
	// Servers are addresses with or without a port: "192.0.2.1",
	// "192.0.2.1:5353", "2001:db8::1", "[2001:db8::1]:5353". They are asked
	// from the container's namespace, so that what it cannot reach does not
	// answer it either.
	Servers []string

	// Host says that Servers are the host's own. Those that only the host can
	// reach (on its loopback or link-local) are then asked from its namespace.
	Host bool

	// Options are those of resolv.conf; timeout:N (seconds to wait for a
	// server, default 5), attempts:N (rounds, default 2) and rotate are
	// honoured, the others are for the container's own library.
	Options []string
}

// maxServers is far above what a resolv.conf may have (3).
const maxServers = 32

// self is where containers find the server.
func self() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 11}) }

// server is an upstream server, as parsed.
type server struct {
	addr netip.AddrPort
	host bool // to be asked from the host's namespace
}

// plan is an Upstream, as parsed.
type plan struct {
	servers  []server
	timeout  time.Duration
	attempts int
	rotate   bool
}

func (u *Upstream) parse() (plan, error) {
	// The limits are those of glibc.
	p := plan{timeout: time.Duration(option(u.Options, "timeout", 5, 30)) * time.Second, attempts: option(u.Options, "attempts", 2, 5)}
	p.rotate = slices.Contains(u.Options, "rotate")
	for _, text := range u.Servers {
		addr, err := netip.ParseAddrPort(text)
		if err != nil {
			var ip netip.Addr
			if ip, err = netip.ParseAddr(text); err != nil {
				return p, fault.Invalid("name server %q: neither an address nor an address with port", text)
			}
			addr = netip.AddrPortFrom(ip, 53)
		}
		addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
		ip := addr.Addr()
		s := server{addr: addr, host: u.Host && (ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified())}
		if !s.host && ip == self() {
			return p, fault.Invalid("name server %s: in a container that is this resolver itself: give another", text)
		}
		p.servers = append(p.servers, s)
	}
	if len(p.servers) > maxServers {
		return p, fault.Invalid("%d name servers: at most %d are of use", len(p.servers), maxServers)
	}
	return p, nil
}

// option reads name:N, at least 1.
func option(options []string, name string, otherwise, most int) int {
	n := otherwise
	for _, o := range options {
		if v, ok := strings.CutPrefix(o, name+":"); ok {
			if i, err := strconv.Atoi(v); err == nil {
				n = min(max(i, 1), most)
			}
		}
	}
	return n
}

// ResolvConf is what a resolv.conf says.
type ResolvConf struct {
	Servers []string // as written
	Search  []string
	Options []string
}

// ParseResolvConf reads a resolv.conf as glibc does: comments begin a line with
// # or ;, the last of search and domain wins, options add up, and what cannot
// be understood is left out.
func ParseResolvConf(data []byte) ResolvConf {
	var c ResolvConf
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0][0] == '#' || fields[0][0] == ';' {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if _, err := netip.ParseAddr(fields[1]); err == nil {
				c.Servers = append(c.Servers, fields[1])
			}
		case "search":
			c.Search = fields[1:]
		case "domain":
			c.Search = fields[1:2]
		case "options":
			c.Options = append(c.Options, fields[1:]...)
		}
	}
	return c
}
