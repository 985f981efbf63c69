package cni

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/step"
)

// cable begins the names of the host's ends of all cables; four digits of the
// Root's id follow, and seven at random.
const cable = "ampv"

func (c *CNI) cablePrefix() string { return cable + c.opts.RootID[:4] }

// plug makes the cable and returns the name of the host's end. That is marked
// after it was made, which takes a second message: GC removes unmarked ones.
func (x *call) plug(h *netlink.Handle, bridge netlink.Link, ns *os.File, mac net.HardwareAddr, hairpin bool) (string, error) {
	name, err := x.makeCable(h, bridge, ns, mac)
	if err != nil {
		return "", err
	}
	x.hostLink = name
	step.At("cni.add.linked")
	link, err := h.LinkByName(name)
	if err != nil {
		return "", fmt.Errorf("look for link %s: %w", name, fault.Opaque(err))
	}
	if err := h.LinkSetAlias(link, x.c.alias(x.owner())); err != nil {
		return "", fmt.Errorf("mark link %s: %w", name, fault.Opaque(err))
	}
	step.At("cni.add.marked")
	if hairpin {
		if err := h.LinkSetHairpin(link, true); err != nil {
			return "", fmt.Errorf("turn on hairpin mode of %s: %w", name, fault.Opaque(err))
		}
	}
	// A port needs no address of its own: it would only speak multicast.
	sysctls(x.c.proc).set("net/ipv6/conf/"+name+"/disable_ipv6", "1")
	if err := h.LinkSetUp(link); err != nil {
		return "", fmt.Errorf("bring up %s: %w", name, fault.Opaque(err))
	}
	return name, nil
}

// makeCable finds a name that is free: seven digits can meet.
func (x *call) makeCable(h *netlink.Handle, bridge netlink.Link, ns *os.File, mac net.HardwareAddr) (string, error) {
	for try := 0; ; try++ {
		var b [4]byte
		rand.Read(b[:])
		name := x.c.cablePrefix() + hex.EncodeToString(b[:])[:7]
		err := newCable(name, x.ifname, bridge, ns, mac)
		switch {
		case err == nil:
			return name, nil
		case errors.Is(err, unix.EEXIST):
			if _, err := h.LinkByName(name); err == nil && try < 10 {
				continue
			}
			return "", fault.Invalid("the namespace of %s has an interface %s already", x.id, x.ifname)
		case errors.Is(err, unix.EXFULL): // BR_MAX_PORTS of the kernel's net/bridge/br_private.h
			return "", fault.Unsupported("bridge %s of network %s is full: a bridge can have 1023 ports; make another network", bridge.Attrs().Name, x.list.Name)
		}
		return "", linkError(err, "make a cable from "+bridge.Attrs().Name+" to "+x.key().String())
	}
}

// newCable makes both ends by one message, so that a process killed at any
// moment leaves none or both: the host's end plugged into the bridge, the
// container's with its name and MAC in its namespace. The library would plug
// in by a second message.
func newCable(name, peer string, bridge netlink.Link, ns *os.File, mac net.HardwareAddr) error {
	mtu := nl.Uint32Attr(uint32(bridge.Attrs().MTU))
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	req.AddData(nl.NewRtAttr(unix.IFLA_MTU, mtu))
	req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(bridge.Attrs().Index))))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	end := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(end, unix.AF_UNSPEC)
	end.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(peer))
	end.AddRtAttr(unix.IFLA_MTU, mtu)
	end.AddRtAttr(unix.IFLA_ADDRESS, mac)
	end.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(ns.Fd())))
	req.AddData(info)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// pull removes a cable, both ends. It returns when they are gone; the kernel
// goes on for some 20 ms until it has freed them, and whoever asked for it has
// to wait inside the call. That is a goroutine here, which needs nobody: should
// the process end, the kernel finishes all the same.
func pull(h *netlink.Handle, link netlink.Link) error {
	own, err := openNetlink() // on this thread: in this namespace
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		defer own.Close()
		done <- own.LinkDel(link)
	}()
	for wait := 100 * time.Microsecond; ; wait = min(2*wait, 2*time.Millisecond) {
		select {
		case err := <-done:
			return err
		case <-time.After(wait):
		}
		// The kernel answers between changes of links, not in the middle of one.
		if _, err := h.LinkByIndex(link.Attrs().Index); isNotFound(err) {
			return nil
		}
	}
}
