package amphora_test

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/container"
	"github.com/amphora-go/amphora/internal/nft"
	"github.com/amphora-go/amphora/network"
	"github.com/vishvananda/netlink"
)

// wiredAddress is the one that the box of the network scenario demands.
var wiredAddress = netip.MustParseAddr("10.219.0.77")

func createNetwork(ctx context.Context, eng *amphora.Engine) error {
	_, err := eng.Networks().Create(ctx, &network.Spec{Name: "app", IPv6: true, Subnets: []network.Subnet{{Prefix: netip.MustParsePrefix("10.219.0.0/24")}}})
	return err
}

func removeNetwork(ctx context.Context, eng *amphora.Engine) error {
	return eng.Networks().Remove(ctx, "app")
}

func createWired(ctx context.Context, eng *amphora.Engine) error {
	spec := boxSpec()
	spec.Mounts = nil
	spec.Networks = []network.Endpoint{{Network: "app", Aliases: []string{"alias"}, Addresses: []netip.Addr{wiredAddress}}, {Network: network.Bridge}}
	spec.Ports = []network.Port{{Container: 80}, {Container: 53, Protocol: "udp", Host: network.AllHosts}}
	_, err := eng.Containers().Create(ctx, spec, nil)
	return err
}

func unplugBox(c *container.Container, ctx context.Context) error { return c.Disconnect(ctx, "app") }

func plugBox(c *container.Container, ctx context.Context) error {
	return c.Connect(ctx, network.Endpoint{Network: "app", Addresses: []netip.Addr{wiredAddress}})
}

// networks compares attachments, leases, cables, bridges and packet filter with
// each other and with the containers.
func (v *view) networks(ctx context.Context, eng *amphora.Engine) (faults []string) {
	all, err := eng.Networks().List(ctx, nil)
	if err != nil {
		return list(faults, "list networks: %v", err)
	}
	attached, addresses, ports, bridges := 0, map[string]bool{}, map[string]int{}, map[string]bool{}
	for _, n := range all {
		bridges[n.Interface] = true
		for _, a := range n.Attached {
			attached++
			if v.alive[a.ID] == 0 {
				faults = list(faults, "%s is attached to %s and does not run", a.ID, n.Name)
			}
			for _, p := range a.Addresses {
				addresses[n.Name+"/"+p.Addr().String()] = true
			}
			if len(a.Ports) > 0 {
				ports[n.Name+"/"+a.ID+"/"+a.Interface] = len(a.Ports)
			}
		}
	}
	filepath.WalkDir(filepath.Join(v.root.State, "net", "leases"), func(path string, d os.DirEntry, err error) error {
		network, name := filepath.Base(filepath.Dir(path)), filepath.Base(path)
		if _, aerr := netip.ParseAddr(name); err == nil && aerr == nil && !addresses[network+"/"+name] {
			faults = list(faults, "lease of nobody: %s/%s", network, name)
		}
		return nil
	})
	kept, _ := filepath.Glob(filepath.Join(v.root.Dir, "networks", ".reserved", "*", "*"))
	for _, k := range kept {
		link, err := os.Readlink(k)
		if id, _, _ := strings.Cut(link, " "); v.byID[id] == nil {
			faults = list(faults, "%s is kept for %s, which is not there (%v)", k, link, err)
		}
	}
	return append(faults, v.cables(attached, ports, bridges)...)
}

// cables looks at what of this Root is on the host.
func (v *view) cables(attached int, ports map[string]int, bridges map[string]bool) (faults []string) {
	owners, err := nft.New(v.root.ID).Owners()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return list(faults, "read the packet filter: %v", err)
	}
	for o := range owners {
		if ports[o] == 0 {
			faults = list(faults, "ports are published for %s, which is not attached", o)
		}
	}
	for o := range ports {
		if len(owners[o]) == 0 {
			faults = list(faults, "the ports of %s are not published", o)
		}
	}
	links, err := netlink.LinkList()
	if err != nil {
		return list(faults, "%v", err)
	}
	cables := 0
	for _, l := range links {
		a := l.Attrs()
		if strings.HasPrefix(a.Name, "amp"+v.root.ID[:4]) && !bridges[a.Name] {
			faults = list(faults, "bridge of no network: %s", a.Name)
		}
		if strings.HasPrefix(a.Name, "ampv") && strings.Contains(a.Alias, v.root.ID) {
			cables++
		}
	}
	if cables != attached {
		faults = list(faults, "%d cables, %d connections", cables, attached)
	}
	return faults
}
