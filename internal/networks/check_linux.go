package networks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	goruntime "runtime"
	"slices"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/firewalld"
	"github.com/amphora-go/amphora/internal/nft"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func (c *checker) machine(ctx context.Context) {
	if links, err := links("", ""); err == nil {
		for _, l := range links {
			c.up[l] = true
		}
	}
	c.kernel()
	c.forwarding()
	firewalld := c.firewalld(ctx)
	c.foreign(firewalld)
	c.legacy()
	c.changed()
}

// kernel makes what networks are made of, in a namespace that goes at once.
func (c *checker) kernel() {
	type failure struct{ name, module, use string }
	var failed []failure
	var errs []error
	// It fails without the privilege, which is reported by itself.
	_ = aside(func() {
		for _, p := range probes {
			if err := p.try(); err != nil {
				failed = append(failed, failure{p.name, p.module, p.use})
				errs = append(errs, err)
			}
		}
	})
	for i, f := range failed {
		if errors.Is(errs[i], os.ErrPermission) {
			c.note("CAP_NET_ADMIN", "run as root, or grant it to this process", "this process lacks it: it can make no networks")
			return
		}
		c.note(f.name, "modprobe "+f.module+", or boot a kernel that has it", "the kernel lacks it, and so %s cannot be had: %v", f.use, errs[i])
	}
}

// aside runs f in a new network namespace, on a thread that comes back from it:
// a thread's end would be that of children with a parent death signal. One that
// cannot come back must not be the main thread, which would not end but show its
// namespace as the process's.
func aside(f func()) error {
	done := make(chan error, 1)
	go func() {
		goruntime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			done <- aside(f)
			goruntime.UnlockOSThread()
			return
		}
		back, err := os.Open("/proc/thread-self/ns/net")
		if err == nil {
			defer back.Close()
			err = unix.Unshare(unix.CLONE_NEWNET)
		}
		if err == nil {
			f()
			err = unix.Setns(int(back.Fd()), unix.CLONE_NEWNET)
			if err == nil {
				goruntime.UnlockOSThread()
			}
		}
		done <- err
	}()
	return <-done
}

var probes = []struct {
	name, module, use string
	try               func() error
}{
	{"bridges", "bridge", "bridge networks", func() error { return addLink(&netlink.Bridge{LinkAttrs: named("br0")}) }},
	{"veth", "veth", "bridge networks", func() error { return addLink(&netlink.Veth{LinkAttrs: named("v0"), PeerName: "v1"}) }},
	{"nf_tables", "nf_tables", "bridge networks and published ports", tryFilter},
	{"sch_tbf", "sch_tbf", "limits of bandwidth", tryLimit},
}

func named(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

func addLink(l netlink.Link) error {
	if err := netlink.LinkAdd(l); !errors.Is(err, unix.EPERM) {
		return err
	}
	return fault.Privilege("make links")
}

// tryFilter writes a table as networks have it, with every kind of rule.
func tryFilter() error {
	t := nft.New("00000000")
	subnets := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64")}
	err := t.AddBridge(nft.Bridge{Name: t.Prefix + "0", Subnets: subnets, Masquerade: true})
	if err != nil {
		return err
	}
	return t.AddPorts("check", []nft.Port{{Protocol: "tcp", HostPort: 1, To: netip.MustParseAddrPort("10.0.0.2:1")}})
}

func tryLimit() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.QdiscAdd(&netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: lo.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate: 1 << 20, Limit: 1 << 20, Buffer: 1 << 16})
}

// forwarding looks at what a machine needs to be a router.
func (c *checker) forwarding() {
	routed := c.names(func(n *Network) bool { return c.up[n.Bridge] && !n.Internal })
	const four = "/proc/sys/net/ipv4/ip_forward"
	if value, err := read(four); err == nil && value == "0" {
		const cure = "sysctl -w net.ipv4.ip_forward=1"
		f, err := os.OpenFile(four, os.O_WRONLY, 0)
		if err == nil {
			f.Close()
		}
		switch {
		case err != nil:
			c.note("ip_forward", cure+" where it can be changed, such as on the host of this container", "net.ipv4.ip_forward is 0 and cannot be changed here (%v): networks that reach the outside cannot be made", err)
		case len(routed) > 0:
			c.note("ip_forward", cure+", or reload the networks", "net.ipv4.ip_forward was turned off: containers reach nothing outside, and nobody their ports from there")
		}
	}
	six := c.names(func(n *Network) bool {
		return n.IPv6 && slices.Contains(routed, n.Bridge) && conf6(n.Bridge, "force_forwarding") != "1"
	})
	if len(six) > 0 && conf6("all", "forwarding") == "0" {
		c.note("IPv6 forwarding", "reload the networks, or sysctl -w net.ipv6.conf.all.forwarding=1",
			"it was turned off for %s: containers reach nothing outside by IPv6", strings.Join(six, ", "))
	}
}

func conf6(link, setting string) string {
	value, _ := read("/proc/sys/net/ipv6/conf/" + link + "/" + setting)
	return value
}

func read(path string) (string, error) {
	data, err := os.ReadFile(path)
	return strings.TrimSpace(string(data)), err
}

// firewalld asks it about the bridges that there are. The result says whether
// its chains were spoken for.
func (c *checker) firewalld(ctx context.Context) bool {
	bridges := c.names(func(n *Network) bool { return c.up[n.Bridge] })
	s, err := c.s.bus.Status(ctx, bridges...)
	if err != nil {
		c.note("firewalld", "see to the message bus; then reload the networks", "whether it runs is not known: %v", err)
		return false
	}
	if !s.Running {
		return false
	}
	var in, out, cures []string
	for _, b := range bridges {
		zone := s.Zones[b]
		switch {
		case zone == firewalld.Zone:
			in = append(in, b)
			continue
		case zone == "":
			out = append(out, b+" in no zone")
		default:
			out = append(out, b+" in zone "+zone)
		}
		cures = append(cures, fmt.Sprintf("firewall-cmd --zone=%s --change-interface=%s", firewalld.Zone, b))
	}
	if len(in) > 0 {
		c.note("firewalld", "none is needed; after firewalld was started anew, reload the networks",
			"it runs, and was told to let %s pass: in its zone %s until it ends", strings.Join(in, ", "), firewalld.Zone)
	}
	if len(out) > 0 {
		c.note("firewalld", strings.Join(cures, " && ")+"; or reload the networks, which does it for those in no zone",
			"it runs and may reject what is forwarded from and to %s", strings.Join(out, ", "))
	}
	return true
}

// foreign reports chains of others, unless they are dealt with as soon as a
// network is used.
func (c *checker) foreign(firewalld bool) {
	all := c.names(func(*Network) bool { return true })
	now := c.names(func(n *Network) bool { return c.up[n.Bridge] || !strings.HasPrefix(n.Bridge, c.s.table.Prefix) })
	if len(all) == 0 {
		all = []string{c.s.table.Prefix}
	}
	chains, err := nft.Foreign(0, all...)
	if err != nil {
		if !errors.Is(err, os.ErrPermission) {
			c.note("nf_tables", "see the error", "others' chains cannot be read: %v", err)
		}
		return
	}
	for _, f := range chains {
		switch {
		case f.Table == "firewalld" && firewalld:
		case f.Passable():
		default:
			c.drops(f, f.Command)
		}
	}
	if len(now) == 0 {
		return
	}
	if chains, err = nft.Foreign(0, now...); err != nil {
		return
	}
	for _, f := range chains {
		if f.Passable() {
			c.drops(f, "reload the networks; or "+f.Command)
		}
	}
}

// legacy looks at iptables-legacy, whose rules we do not write.
func (c *checker) legacy() {
	bridges := c.names(func(*Network) bool { return true })
	if len(bridges) == 0 {
		bridges = []string{c.s.table.Prefix}
	}
	chains, err := nft.Legacy(bridges...)
	if err != nil && !errors.Is(err, os.ErrPermission) {
		c.note("iptables-legacy", "iptables-legacy -S FORWARD shows whether they drop", "its tables are in use and cannot be read: %v", err)
	}
	for _, f := range chains {
		c.drops(f, f.Command)
	}
}

func (c *checker) drops(f nft.Chain, cure string) {
	c.note("firewall", cure, "chain %s of table %s %s drops what is forwarded from or to containers: %s", f.Name, f.Family, f.Table, f.Why)
}

// changed lists the host's settings that were changed for networks.
func (c *checker) changed() {
	changed, err := c.s.cni().ChangedSysctls()
	if err != nil {
		c.note("sysctls", "remove that file", "what networks changed is not known: %v", err)
		return
	}
	if len(changed) == 0 {
		return
	}
	var was, back []string
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		dotted := strings.ReplaceAll(name, "/", ".")
		was = append(was, fmt.Sprintf("%s (it was %s)", dotted, changed[name]))
		back = append(back, fmt.Sprintf("%s=%s", dotted, changed[name]))
	}
	c.note("sysctls", "leave them; or, when no network is used any more: sysctl -w "+strings.Join(back, " "),
		"changed for networks since this machine started: %s; nothing is forwarded by that between interfaces that are not virtual (chain seal of table %s)",
		strings.Join(was, ", "), c.s.table.Name)
}
