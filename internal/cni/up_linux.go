package cni

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/step"
)

// Up makes the bridge of a network and its part of the packet filter, or mends
// what is missing of them; the subnets of a bridge that is made must be free of
// routes. Networks of other plugins need nothing. Attaching does it, too.
func (c *CNI) Up(ctx context.Context, conflist []byte) error {
	n, err := c.network(conflist)
	if err != nil || n == nil {
		return err
	}
	h, err := openNetlink()
	if err != nil {
		return err
	}
	defer h.Close()
	_, err = c.ensure(ctx, h, n, true)
	return err
}

// Down removes what Up made, and the directories of leases and cache once they
// are empty. The caller has made sure that nobody is attached. Bridges that
// others made stay.
func (c *CNI) Down(ctx context.Context, conflist []byte) error {
	n, err := c.network(conflist)
	if err != nil {
		return err
	}
	if n != nil {
		h, err := openNetlink()
		if err != nil {
			return err
		}
		defer h.Close()
		if err := c.removeBridge(h, n); err != nil {
			return err
		}
		c.distrust(ctx, n)
		step.At("cni.down.removed")
		if err := c.opts.Table.RemoveBridge(n.filter); err != nil {
			return err
		}
	}
	list, err := parseList(conflist)
	if err != nil {
		return err
	}
	if err := c.leases.Drop(ctx, list.Name); err != nil && !errors.Is(err, fault.ErrInUse) {
		return err
	}
	for _, dir := range []string{c.cacheResults(list.Name), c.cacheDir(list.Name)} {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
			return fault.Opaque(err)
		}
	}
	return nil
}

// mark begins the alias of every link that this Root made; what follows is a
// network, or an attachment's owner.
func (c *CNI) mark() string { return "amphora " + c.opts.RootID + " " }

// aliasMax is the kernel's IFALIASZ less its NUL.
const aliasMax = 255

func (c *CNI) alias(name string) string {
	if a := c.mark() + name; len(a) <= aliasMax {
		return a
	}
	return c.mark() + fmt.Sprintf("%x", sha256.Sum256([]byte(name)))
}

// ours says whether a bridge was made by this Root. A process killed between
// making and marking leaves one without alias, but under a name of ours.
func (c *CNI) ours(link netlink.Link) bool {
	a := link.Attrs()
	return strings.HasPrefix(a.Alias, c.mark()) || a.Alias == "" && strings.HasPrefix(a.Name, "amp"+c.opts.RootID[:4])
}

func (c *CNI) removeBridge(h *netlink.Handle, n *network) error {
	link, err := h.LinkByName(n.filter.Name)
	if isNotFound(err) {
		return nil
	}
	if err == nil && !c.ours(link) {
		return nil
	}
	if err == nil {
		err = h.LinkDel(link)
	}
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("remove bridge %s: %w", n.filter.Name, fault.Opaque(err))
	}
	return nil
}

// ensure makes bridge and filter entry and returns the bridge. A bridge that is
// up was finished by somebody, as that is the last step; unless all is to be
// mended, only the filter is written again then, since its flushing is an
// everyday event. No lock is needed: every step may be done twice, by two
// processes at once.
func (c *CNI) ensure(ctx context.Context, h *netlink.Handle, n *network, mend bool) (netlink.Link, error) {
	name := n.filter.Name
	bridge, err := findBridge(h, name)
	if err != nil {
		return nil, err
	}
	if bridge != nil && bridge.Attrs().Flags&net.FlagUp != 0 && !mend {
		return bridge, c.opts.Table.AddBridge(n.filter)
	}
	made := false
	if bridge == nil {
		if bridge, made, err = c.makeBridge(h, n); err != nil {
			return nil, err
		}
	}
	if err = ctx.Err(); err == nil {
		err = c.finish(ctx, h, n, bridge)
	}
	if err == nil && made {
		err = checkRoutes(h, n) // somebody may have been quicker since
	}
	if err != nil {
		if made {
			h.LinkDel(bridge)
			c.distrust(context.WithoutCancel(ctx), n)
			c.opts.Table.RemoveBridge(n.filter)
		}
		return nil, err
	}
	return bridge, nil
}

// distrust has the other filter forget the bridge: else its name stays there
// until that filter ends.
func (c *CNI) distrust(ctx context.Context, n *network) {
	if c.opts.Firewall != nil {
		c.opts.Firewall.Distrust(ctx, n.filter.Name)
	}
}

// findBridge returns nil if there is no such link.
func findBridge(h *netlink.Handle, name string) (netlink.Link, error) {
	link, err := h.LinkByName(name)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for bridge %s: %w", name, fault.Opaque(err))
	}
	if link.Type() != "bridge" {
		return nil, fault.Invalid("link %s is a %s, not a bridge: give the network another bridge name", name, link.Type())
	}
	return link, nil
}

func (c *CNI) makeBridge(h *netlink.Handle, n *network) (link netlink.Link, made bool, err error) {
	if err := checkRoutes(h, n); err != nil {
		return nil, false, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = n.filter.Name, n.mtu
	if attrs.MTU == 0 {
		attrs.MTU = defaultMTU(h)
	}
	// Without an address of its own a bridge takes that of a port, and loses it
	// with the port.
	attrs.HardwareAddr = bridgeMAC(c.opts.RootID, n.filter.Name)
	err = h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, false, linkError(err, "make bridge "+n.filter.Name)
	}
	made = err == nil
	step.At("cni.bridge.made")
	link, err = findBridge(h, n.filter.Name)
	if err == nil && link == nil {
		err = fmt.Errorf("bridge %s was removed while it was being made", n.filter.Name)
	}
	if err == nil && made {
		err = fault.Opaque(h.LinkSetAlias(link, c.alias(n.name)))
	}
	if err != nil && made {
		h.LinkDel(&netlink.Bridge{LinkAttrs: attrs})
	}
	return link, made, err
}

// finish gives a bridge its addresses, then its filter, and only then the
// setting that would let containers reach the host's loopback services without
// that filter.
func (c *CNI) finish(ctx context.Context, h *netlink.Handle, n *network, bridge netlink.Link) error {
	name := n.filter.Name
	s := sysctls(c.proc)
	if n.has6() {
		if err := s.set("net/ipv6/conf/"+name+"/disable_ipv6", "0"); err != nil {
			return err
		}
	}
	if v6 := "net/ipv6/conf/" + name + "/"; s.has(v6) {
		// A container must not be the host's router.
		if err := errors.Join(s.set(v6+"accept_ra", "0"), s.set(v6+"accept_redirects", "0")); err != nil {
			return err
		}
		s.set(v6+"accept_dad", "0") // nobody has the address that the bridge gives itself
	}
	for _, gw := range n.gateways {
		if err := addAddress(h, bridge, gw); err != nil {
			return fmt.Errorf("give bridge %s the address %s: %w", name, gw, err)
		}
	}
	step.At("cni.bridge.addressed")
	if err := c.opts.Table.AddBridge(n.filter); err != nil {
		return err
	}
	step.At("cni.bridge.filtered")
	v4 := "net/ipv4/conf/" + name + "/"
	s.set(v4+"arp_notify", "1") // these two can be done without
	s.set(v4+"send_redirects", "0")
	if err := s.set(v4+"accept_redirects", "0"); err != nil {
		return err
	}
	if n.forwards() && n.has4() {
		if err := s.set(v4+"route_localnet", "1"); err != nil {
			return err
		}
	}
	if n.forwards() {
		if err := c.forward(ctx, n); err != nil {
			return err
		}
	}
	// With net.bridge.bridge-nf-call-iptables, which Docker turns on, others'
	// filters see what stays on one bridge, too.
	if err := c.opts.Table.PassForeign(); err != nil {
		return err
	}
	if c.opts.Firewall != nil {
		c.opts.Firewall.Trust(ctx, name) // whoever is left out is told by Check
	}
	step.At("cni.bridge.forwarding")
	if err := h.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("bring up bridge %s: %w", name, fault.Opaque(err))
	}
	step.At("cni.bridge.up")
	return nil
}

// addAddress adds what may be there already, without the second that duplicate
// address detection takes: addresses come from our own register.
func addAddress(h *netlink.Handle, link netlink.Link, p netip.Prefix) error {
	n := ipNet(p)
	a := &netlink.Addr{IPNet: &n}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := h.AddrAdd(link, a); err != nil && !errors.Is(err, unix.EEXIST) {
		return fault.Opaque(err)
	}
	return nil
}

// bridgeMAC is unicast, locally administered, and never like a container's,
// which begins with 02:42.
func bridgeMAC(root, name string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(root + name))
	return append(net.HardwareAddr{0x0e}, sum[:5]...)
}

// linkError says what is missing where links cannot be made.
func linkError(err error, doing string) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fault.Privilege("%s: %w: it needs CAP_NET_ADMIN", doing, err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fault.Unsupported("%s: the kernel lacks this kind of link", doing)
	}
	return fmt.Errorf("%s: %w", doing, fault.Opaque(err))
}
