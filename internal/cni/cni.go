package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/ipam"
	"github.com/amphora-go/amphora/internal/step"
)

// undoTime limits the roll back of a failed ADD, which has no caller to wait
// for: exec'd plugins can hang.
const undoTime = 30 * time.Second

// planKey is the capability under which the plan lies in libcni's cache. No
// plugin declares it, so none sees it.
const planKey = "amphora.plugins"

// libcni keeps each network's attachments in a directory of its own: the names
// of its files are network-id-interface, which "a-b", "c" and "a", "b-c" share.
func (c *CNI) libcni(r *run) *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir(c.opts.Path, c.cacheDir(r.list.Name), r)
}

func (c *CNI) cacheDir(network string) string { return filepath.Join(c.opts.CacheDir, network) }
func (c *CNI) cacheResults(network string) string {
	return filepath.Join(c.cacheDir(network), "results")
}

// Add attaches. What a failed one did is undone, also when ctx has ended. An
// attachment that exists already is an error that Is ipam.ErrAttached and
// leaves it as it is.
func (c *CNI) Add(ctx context.Context, req *Request) (*Result, error) {
	list, err := parseList(req.Conflist)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(supported(), ctx.Err()); err != nil {
		return nil, err
	}
	if err := req.valid(list); err != nil {
		return nil, err
	}
	p, err := c.resolve(list, nil)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(c.cacheFile(list.Name, req)); err == nil {
		return nil, fault.Kind(ipam.ErrAttached, "%s is attached to network %s already: detach it first", req.key(), list.Name)
	}
	r := &run{c: c, list: list, plan: p, req: req}
	rt := req.runtimeConf(list, p)
	raw, err := c.libcni(r).AddNetworkList(ctx, r.chain("ADD", rt), rt)
	step.At("cni.add.cached")
	var result *Result
	if err == nil {
		result, err = resultOf(raw, req.IfName, p)
	}
	if err != nil && !errors.Is(err, ipam.ErrAttached) {
		err = errors.Join(err, c.undo(ctx, r))
	}
	return result, err
}

// undo takes back what an ADD did before it failed.
func (c *CNI) undo(ctx context.Context, r *run) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	r.undoing = true
	rt := r.req.runtimeConf(r.list, r.plan)
	list := r.chain("DEL", rt)
	err := c.libcni(r).DelNetworkList(ctx, list, rt)
	if err == nil {
		return nil
	}
	// A binary that failed has stopped it: what is ours goes all the same.
	list.Plugins = slices.DeleteFunc(list.Plugins, func(p *libcni.PluginConfig) bool { return r.plan[p.Network.Type] != Builtin })
	return fmt.Errorf("undo: %w", errors.Join(err, c.libcni(r).DelNetworkList(ctx, list, rt)))
}

// Check says whether an attachment is still as ADD left it.
func (c *CNI) Check(ctx context.Context, req *Request) error {
	r, rt, err := c.again(req)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(c.cacheFile(r.list.Name, req)); errors.Is(err, fs.ErrNotExist) {
		return fault.NotExist("%s is not attached to network %s, as far as the cache knows", req.key(), r.list.Name)
	}
	return c.libcni(r).CheckNetworkList(ctx, r.chain("CHECK", rt), rt)
}

// Del detaches. It can be repeated: nothing to do is no error.
func (c *CNI) Del(ctx context.Context, req *Request) error {
	r, rt, err := c.again(req)
	if err != nil {
		return err
	}
	return c.libcni(r).DelNetworkList(ctx, r.chain("DEL", rt), rt)
}

// again prepares to do something with what an ADD made, as the cache has it;
// what the cache has lost comes from the request.
func (c *CNI) again(req *Request) (*run, *libcni.RuntimeConf, error) {
	if err := supported(); err != nil {
		return nil, nil, err
	}
	list, err := parseList(req.Conflist)
	if err != nil {
		return nil, nil, err
	}
	if err := req.validKey(); err != nil {
		return nil, nil, err
	}
	rt := req.runtimeConf(list, nil)
	recorded := req.Plugins
	r := &run{c: c, list: list, req: req}
	conf, cached, err := c.libcni(r).GetNetworkListCachedConfig(list, rt)
	r.lost = err != nil || cached == nil
	if !r.lost {
		rt = cached
		if recorded == nil {
			recorded = recordedPlan(cached.CapabilityArgs)
		}
		if old, err := parseList(conf); err == nil && old.Name == list.Name {
			r.list = old // the network may have been changed since
		}
	}
	r.plan, err = c.resolve(r.list, recorded)
	return r, rt, err
}

// recordedPlan reads the plan that ADD put into the cache.
func recordedPlan(args map[string]any) map[string]string {
	found, _ := args[planKey].(map[string]any)
	if len(found) == 0 {
		return nil
	}
	recorded := map[string]string{}
	for typ, how := range found {
		recorded[typ], _ = how.(string)
	}
	return recorded
}

// cacheFile is libcni's name for the record of an attachment.
func (c *CNI) cacheFile(network string, req *Request) string {
	return filepath.Join(c.cacheResults(network), fmt.Sprintf("%s-%s-%s", network, req.ID, req.IfName))
}

// Status says whether the plugins of a network can do ADD now.
func (c *CNI) Status(ctx context.Context, conflist []byte) error {
	if err := supported(); err != nil {
		return err
	}
	list, err := parseList(conflist)
	if err != nil {
		return err
	}
	p, err := c.resolve(list, nil)
	if err != nil {
		return err
	}
	return c.libcni(&run{c: c, list: list, plan: p, req: &Request{}}).GetStatusNetworkList(ctx, list)
}

// Validate says what is wrong with a conflist: types and fields that nobody
// here knows, values that make no sense to a built-in plugin. It looks for
// binaries, and runs none.
func (c *CNI) Validate(conflist []byte) error {
	list, err := parseList(conflist)
	if err != nil {
		return err
	}
	p, err := c.resolve(list, nil)
	if err != nil {
		return err
	}
	for _, conf := range list.Plugins {
		for _, typ := range []string{conf.Network.Type, conf.Network.IPAM.Type} {
			if typ == "" || p[typ] != Builtin {
				continue
			}
			if err := builtin(typ).validate(conf.Bytes); err != nil {
				return fmt.Errorf("conflist of network %s: plugin %s: %w", list.Name, typ, err)
			}
		}
	}
	return nil
}

// resultOf reads what the chain returned.
func resultOf(raw types.Result, ifname string, p plan) (*Result, error) {
	full, err := types100.GetResult(raw)
	if err != nil {
		return nil, fmt.Errorf("result of the plugins: %w", err)
	}
	r := &Result{IfName: ifname, Plugins: p}
	if r.Raw, err = json.Marshal(full); err != nil {
		return nil, err
	}
	inside := -1
	for i, link := range full.Interfaces {
		switch {
		case link.Sandbox != "" && link.Name == ifname:
			inside = i
			if r.MAC, err = net.ParseMAC(link.Mac); err != nil && link.Mac != "" {
				return nil, fmt.Errorf("result of the plugins: %w", err)
			}
		case link.Sandbox == "" && inside < 0:
			r.HostLink = link.Name // the last one before the container's: bridges come first
		}
	}
	for _, ip := range full.IPs {
		if ip.Interface != nil && inside >= 0 && *ip.Interface != inside {
			continue
		}
		r.Addresses = append(r.Addresses, prefixOf(ip.Address))
		if gw, ok := netip.AddrFromSlice(ip.Gateway); ok {
			r.Gateways = append(r.Gateways, gw.Unmap())
		}
	}
	return r, nil
}

// prefixOf keeps the host bits.
func prefixOf(n net.IPNet) netip.Prefix {
	a, _ := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if a = a.Unmap(); a.Is4() && bits == 128 {
		ones -= 96
	}
	return netip.PrefixFrom(a, ones)
}

// ipNet is the reverse.
func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// unmarshal reads a plugin's configuration.
func unmarshal(conf []byte, v any) error {
	if err := json.Unmarshal(conf, v); err != nil {
		return fault.Invalid("configuration: %w", err)
	}
	return nil
}

// marshal is for values that came from JSON.
func marshal(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

// validOf reads the list that a GC command carries.
func validOf(conf []byte) ([]Key, error) {
	var c types.PluginConf
	if err := unmarshal(conf, &c); err != nil {
		return nil, err
	}
	var valid []Key
	for _, a := range c.ValidAttachments {
		valid = append(valid, Key{ID: a.ContainerID, IfName: a.IfName})
	}
	return valid, nil
}

// isOf says whether an owner's name, as in the filter, is an attachment of the
// network.
func isOf(owner, network string) (Key, bool) {
	rest, ok := strings.CutPrefix(owner, network+"/")
	id, ifname, whole := strings.Cut(rest, "/")
	return Key{ID: id, IfName: ifname}, ok && whole
}
