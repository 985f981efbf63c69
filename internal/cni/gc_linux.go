package cni

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/step"
)

// gc removes the host ends of cables that are nobody's: of attachments that are
// not valid, and of those that were never marked.
func (bridgePlugin) gc(x *call, valid []Key) error {
	conf, err := parseBridge(x.conf)
	if err != nil {
		return err
	}
	h, err := openNetlink()
	if err != nil {
		return err
	}
	defer h.Close()
	all, err := dump(h.LinkList)
	if err != nil {
		return fmt.Errorf("list links: %w", fault.Opaque(err))
	}
	keep := map[string]bool{}
	for _, k := range valid {
		keep[x.c.alias(ownerOf(x.list.Name, k))] = true
	}
	master := -1
	for _, link := range all {
		if link.Attrs().Name == conf.Bridge && x.c.ours(link) {
			master = link.Attrs().Index
		}
	}
	var stale []netlink.Link
	for _, link := range all {
		a := link.Attrs()
		unmarked := a.Alias == "" && strings.HasPrefix(a.Name, x.c.cablePrefix())
		owner, marked := strings.CutPrefix(a.Alias, x.c.mark())
		onBridge := a.MasterIndex == master && marked && !strings.Contains(owner, "/") // a long owner's digest
		ours := marked && strings.HasPrefix(owner, x.list.Name+"/") || onBridge || unmarked
		if link.Type() != "veth" || !ours || keep[a.Alias] {
			continue
		}
		stale = append(stale, link)
	}
	if err := removeLinks(h, stale); err != nil {
		return err
	}
	if conf.IPAM.Type == "" {
		return nil
	}
	return x.ipamOptional("GC", conf.IPAM.Type)
}

// removeLinks removes links together: each by itself waits 20 ms for all
// processors to have forgotten it, with every change of the network locked out.
func removeLinks(h *netlink.Handle, links []netlink.Link) error {
	if len(links) == 0 {
		return nil
	}
	var b [4]byte
	rand.Read(b[:])
	group := binary.NativeEndian.Uint32(b[:]) | 1<<30 // 0 is everybody's
	for _, link := range links {
		if err := h.LinkSetGroup(link, int(group)); err != nil && !isNotFound(err) {
			return fmt.Errorf("mark link %s for removal: %w", link.Attrs().Name, fault.Opaque(err))
		}
		step.At("cni.gc.link")
	}
	req := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(group)))
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil && !isNotFound(err) {
		return fmt.Errorf("remove the links of %d attachments: %w", len(links), fault.Opaque(err))
	}
	return nil
}
