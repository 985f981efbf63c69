package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/step"
)

// GC removes everything of a network that belongs to none of the valid
// attachments: leases, published ports, host ends of links, cache entries. The
// caller keeps ADD and DEL away meanwhile.
//
// libcni's own GC would hand the namespace paths of its cache to the plugins;
// such a path can name another process's namespace by now, so DEL is done
// without one here.
func (c *CNI) GC(ctx context.Context, conflist []byte, valid []Key) error {
	if err := supported(); err != nil {
		return err
	}
	list, err := parseList(conflist)
	if err != nil {
		return err
	}
	r := &run{c: c, list: list, req: &Request{}}
	if r.plan, err = c.resolve(list, nil); err != nil {
		return err
	}
	attachments, err := c.libcni(r).GetCachedAttachments("")
	if err != nil {
		return fault.Opaque(err)
	}
	var errs []error
	for _, a := range attachments {
		k := Key{ID: a.ContainerID, IfName: a.IfName}
		if a.Network != list.Name || slices.Contains(valid, k) {
			continue
		}
		step.At("cni.gc.attachment")
		err := c.Del(ctx, &Request{Conflist: conflist, ID: k.ID, IfName: k.IfName, Plugins: recordedPlan(a.CapabilityArgs)})
		if err != nil {
			errs = append(errs, fmt.Errorf("detach %s from network %s: %w", k, list.Name, err))
		}
	}
	errs = append(errs, c.gcCache(list.Name, valid))
	for _, conf := range list.Plugins {
		if err := r.gcPlugin(ctx, conf, valid); err != nil {
			errs = append(errs, fmt.Errorf("collect garbage of plugin %s of network %s: %w", conf.Network.Type, list.Name, err))
		}
	}
	return errors.Join(errs...)
}

// gcPlugin gives one plugin the command. Binaries know it since version 1.1.0
// of the specification.
func (r *run) gcPlugin(ctx context.Context, conf *libcni.PluginConfig, valid []Key) error {
	if r.plan[conf.Network.Type] != Builtin {
		if knows, _ := version.GreaterThanOrEqualTo(r.list.CNIVersion, "1.1.0"); !knows {
			return nil
		}
	}
	attachments := []types.GCAttachment{} // not null: a list that is missing says nothing
	for _, k := range valid {
		attachments = append(attachments, types.GCAttachment{ContainerID: k.ID, IfName: k.IfName})
	}
	conf, err := libcni.InjectConf(conf, map[string]any{
		"name": r.list.Name, "cniVersion": r.list.CNIVersion,
		"cni.dev/valid-attachments": attachments, "cni.dev/attachments": attachments,
	})
	if err != nil {
		return err
	}
	path, err := r.FindInPath(conf.Network.Type, r.c.opts.Path)
	if err != nil {
		return err
	}
	args := &invoke.Args{Command: "GC", Path: strings.Join(r.c.opts.Path, string(os.PathListSeparator))}
	return invoke.ExecPluginWithoutResult(ctx, path, conf.Bytes, args, r)
}

// gcCache removes entries of the cache that cannot be read: libcni writes them
// in place, so a killed process leaves half a file. Nothing is lost with them,
// as whatever they tell is found without.
func (c *CNI) gcCache(network string, valid []Key) error {
	entries, err := os.ReadDir(c.cacheResults(network))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Opaque(err)
	}
	for _, e := range entries {
		path := filepath.Join(c.cacheResults(network), e.Name())
		data, err := os.ReadFile(path)
		if err != nil || isEntry(data) {
			continue
		}
		if slices.ContainsFunc(valid, func(k Key) bool { return e.Name() == network+"-"+k.ID+"-"+k.IfName }) {
			continue // DEL of the living one will be done without it
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault.Opaque(err)
		}
	}
	return nil
}

// isEntry says whether GetCachedAttachments sees a file of the cache.
func isEntry(data []byte) bool {
	var e struct{ Kind, ContainerID, IfName, NetworkName string }
	return json.Unmarshal(data, &e) == nil && e.Kind == libcni.CNICacheV1 && e.ContainerID != "" && e.IfName != "" && e.NetworkName != ""
}
