package networks

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// subnetWait bounds how long another process may choose subnets. It takes a
// few milliseconds; an abstract address can be bound by anybody, who would
// otherwise stop us for ever.
const subnetWait = 20 * time.Second

// lockSubnets waits until nobody else chooses subnets in this network
// namespace.
func lockSubnets(ctx context.Context) (release func(), err error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fault.Opaque(err)
	}
	deadline := time.Now().Add(subnetWait)
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: subnetLock})
		if err == nil {
			return func() { unix.Close(fd) }, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
		if time.Now().After(deadline) {
			err = fmt.Errorf("another process has been choosing subnets for %v; it holds the abstract socket %s", subnetWait, subnetLock)
			break
		}
		select {
		case <-ctx.Done():
			unix.Close(fd)
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
	unix.Close(fd)
	return nil, fault.Opaque(err)
}

// routes are the prefixes that this machine can reach, by whatever table: a
// network of ours must not hide them.
func routes() ([]netip.Prefix, error) {
	var list []netlink.Route
	var err error
	for range 5 { // a dump may be interrupted by a change
		list, err = netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fault.Opaque(fmt.Errorf("list the routes: %w", err))
	}
	var all []netip.Prefix
	for _, r := range list {
		if r.Table == unix.RT_TABLE_LOCAL || r.Dst == nil {
			continue
		}
		addr, ok := netip.AddrFromSlice(r.Dst.IP)
		ones, _ := r.Dst.Mask.Size()
		if ok && ones > 0 {
			all = append(all, netip.PrefixFrom(addr.Unmap(), ones))
		}
	}
	return all, nil
}

// defaultMTU is that of the interface with the default route, else Ethernet's.
func defaultMTU() int {
	list, _ := netlink.RouteList(nil, netlink.FAMILY_V4) // what is missing of an interrupted dump costs little here
	for _, r := range list {
		if r.Dst != nil && r.Dst.IP != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
			return link.Attrs().MTU
		}
	}
	return 1500
}
