package network

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/amphora-go/amphora/internal/attachment"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/shim"
)

// Dial connects to an address of the network, "db:5432" or "10.210.0.7:80".
// Names are those that containers on the network resolve; a name that nobody
// has is [fs.ErrNotExist]. No port needs to be published. network is one of
// net.Dial.
func (n *Network) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := n.dial(ctx, network, addr)
	if err != nil {
		return nil, fault.New("network dial", n.name, err)
	}
	return c, nil
}

func (n *Network) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fault.Invalid("%w", err)
	}
	info, err := n.m.find(ctx, n.name)
	if err != nil {
		return nil, err
	}
	all, err := attachment.List(n.m.root.State, info.Name)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	found := byName(all, host)
	if len(found) == 0 {
		return nil, fault.NotExist("nobody on network %s is called %q", info.Name, host)
	}
	a := found[rand.IntN(len(found))]
	if info.Driver != "bridge" && a.Container { // the host is not on that network
		return through(ctx, n.m.root, a, network, port)
	}
	var last error
	for _, p := range a.Addresses {
		if strings.HasSuffix(network, "4") && !p.Addr().Is4() || strings.HasSuffix(network, "6") && !p.Addr().Is6() {
			continue
		}
		c, err := new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(p.Addr().String(), port))
		if err == nil {
			return c, nil
		}
		last = err
	}
	if last == nil {
		last = fault.Invalid("%s has no address for %s", host, network)
	}
	return nil, last
}

// through dials in the container's own namespace.
func through(ctx context.Context, root *record.Root, a *attachment.Attachment, network, port string) (net.Conn, error) {
	c, err := shim.Dial(ctx, root, a.ID)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	f, err := c.Dial(ctx, network, net.JoinHostPort(a.Addresses[0].Addr().String(), port))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileConn(f)
}

func byName(all []*attachment.Attachment, name string) []*attachment.Attachment {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	var found []*attachment.Attachment
	for _, a := range all {
		for _, have := range append(a.Names, a.ID) {
			if have == name && len(a.Addresses) > 0 {
				found = append(found, a)
				break
			}
		}
	}
	return found
}

// Listen serves the containers of the network: they reach it by the name of
// addr, "api:8080", which is resolved while the listener is open. The socket is
// bound to the network's gateway, on this host; nobody else reaches it. Port 0
// is any free one. network is "tcp", "tcp4" or "tcp6".
//
// Names that containers have are refused (fs.ErrExist). The default network
// has no names: give an empty one, and the gateway's address to containers.
func (n *Network) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	l, err := n.listen(ctx, network, addr)
	if err != nil {
		return nil, fault.New("network listen", n.name, err)
	}
	return l, nil
}

func (n *Network) listen(ctx context.Context, network, addr string) (net.Listener, error) {
	name, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fault.Invalid("%w", err)
	}
	if name != "" {
		if err := checkHostName(name); err != nil {
			return nil, fault.Invalid("the name %q: %w", name, err)
		}
	}
	if p, err := strconv.ParseUint(port, 10, 16); err != nil {
		return nil, fault.Invalid("the port %q: give 0 to 65535", port)
	} else if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return nil, fault.Invalid("cannot listen on %q port %d: use tcp, tcp4 or tcp6", network, p)
	}
	served, err := n.m.s.Serve(ctx, n.name, name)
	if err != nil {
		return nil, err
	}
	for _, gw := range served.Gateways {
		if network == "tcp4" && !gw.Is4() || network == "tcp6" && !gw.Is6() {
			continue
		}
		l, err := new(net.ListenConfig).Listen(ctx, network, net.JoinHostPort(gw.String(), port))
		if err != nil {
			served.Close()
			return nil, err
		}
		return &listener{l, served}, nil
	}
	served.Close()
	return nil, fault.Invalid("the network has no gateway of that family on this host")
}

// listener takes its name off the network when it is closed.
type listener struct {
	net.Listener
	served interface{ Close() error }
}

func (l *listener) Close() error {
	err := l.Listener.Close()
	if serr := l.served.Close(); err == nil {
		err = serr
	}
	return err
}
