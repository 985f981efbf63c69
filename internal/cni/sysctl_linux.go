package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/step"
)

// sysctls are the kernel's settings below a directory: /proc/sys, whose net part
// is that of the calling thread's namespace. Names are paths, "net/ipv4/ip_forward",
// since those of interfaces may have dots.
type sysctls string

func (s sysctls) get(name string) (string, error) {
	data, err := os.ReadFile(filepath.Join(string(s), name))
	return strings.TrimSpace(string(data)), err
}

func (s sysctls) has(name string) bool {
	_, err := os.Stat(filepath.Join(string(s), name))
	return err == nil
}

// set writes a value that is not there already: where /proc/sys is read-only,
// somebody may have set it for us.
func (s sysctls) set(name, value string) error {
	old, err := s.get(name)
	if err == nil && old == value {
		return nil
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(string(s), name), []byte(value), 0o644)
	}
	if err != nil {
		dotted := strings.ReplaceAll(name, "/", ".")
		return fault.Privilege("sysctl %s is %q and must be %s, but cannot be changed here: %w: run sysctl -w %s=%s where it can",
			dotted, old, value, fault.Opaque(err), dotted, value)
	}
	return nil
}

// sysctlRecord lies beside libcni's cache: settings of the host that were
// changed, with what they were.
type sysctlRecord struct {
	Version int               `json:"version"`
	Changed map[string]string `json:"changed"`
}

func (c *CNI) sysctlFile() string {
	return filepath.Join(filepath.Dir(filepath.Clean(c.opts.CacheDir)), "sysctl.json")
}

// ChangedSysctls are the settings of the host, other than those of our own
// bridges, that this Root has changed since the machine started, with their
// former values.
func (c *CNI) ChangedSysctls() (map[string]string, error) {
	data, err := os.ReadFile(c.sysctlFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Opaque(err)
	}
	var r sysctlRecord
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", c.sysctlFile(), err)
	}
	return r.Changed, nil
}

// change is set with a record, made before.
func (c *CNI) change(name, value string) error {
	old, err := sysctls(c.proc).get(name)
	if err == nil && old == value {
		return nil
	}
	changed, err := c.ChangedSysctls()
	if err != nil || changed == nil {
		changed = map[string]string{} // a damaged record is no reason to have no network
	}
	_, known := changed[name]
	if !known {
		changed[name] = old
		if err := atomicfile.WriteJSON(c.sysctlFile(), sysctlRecord{Version: 1, Changed: changed}, 0o600, false); err != nil {
			return fault.Opaque(err)
		}
	}
	step.At("cni.forward.recorded")
	err = sysctls(c.proc).set(name, value)
	if err != nil && !known { // else it was changed earlier, and that stays so
		delete(changed, name)
		atomicfile.WriteJSON(c.sysctlFile(), sysctlRecord{Version: 1, Changed: changed}, 0o600, false)
	}
	return err
}

const (
	forward4 = "net/ipv4/ip_forward"
	forward6 = "net/ipv6/conf/all/forwarding"
)

// forward makes the host route for a network. The filter is sealed before
// forwarding is turned on: a machine that did not route must not begin to, but
// for networks of containers.
func (c *CNI) forward(ctx context.Context, n *network) error {
	if err := os.MkdirAll(filepath.Dir(c.sysctlFile()), 0o700); err != nil {
		return fault.Opaque(err)
	}
	lock, err := flock.Acquire(ctx, c.sysctlFile()+".lock", flock.Exclusive) // of the record
	if err != nil {
		return fault.Opaque(err)
	}
	defer lock.Release()
	s := sysctls(c.proc)
	four, _ := s.get(forward4)
	changed, _ := c.ChangedSysctls()
	if n.has4() && four != "1" || changed[forward4] != "" || changed[forward6] != "" {
		if err := c.opts.Table.Seal(); err != nil {
			return err
		}
	}
	step.At("cni.forward.sealed")
	if n.has4() {
		if err := c.change(forward4, "1"); err != nil {
			return err
		}
	}
	if n.has6() {
		return c.forward6(n.filter.Name)
	}
	return nil
}

// forward6 does it for IPv6. Since 6.17 single interfaces can be made to
// forward: what comes from the bridge and from the uplinks. Before, only all
// can, and uplinks then stop listening to routers unless accept_ra is 2.
func (c *CNI) forward6(bridge string) error {
	s := sysctls(c.proc)
	if all, err := s.get(forward6); err == nil && all == "1" {
		return nil
	}
	uplinks, err := uplinks6()
	if err != nil {
		return err
	}
	if err := c.opts.Table.Seal(); err != nil {
		return err
	}
	conf := func(link, name string) string { return "net/ipv6/conf/" + link + "/" + name }
	if s.has(conf(bridge, "force_forwarding")) {
		if err := s.set(conf(bridge, "force_forwarding"), "1"); err != nil {
			return err
		}
		for _, link := range uplinks {
			if err := c.change(conf(link, "force_forwarding"), "1"); err != nil {
				return err
			}
		}
		return nil
	}
	for _, link := range uplinks {
		if ra, err := s.get(conf(link, "accept_ra")); err == nil && ra == "1" {
			if err := c.change(conf(link, "accept_ra"), "2"); err != nil {
				return err
			}
		}
	}
	return c.change(forward6, "1")
}
