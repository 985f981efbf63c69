package build

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// options are the request as the frontend reads it. Trees that the caller gave
// are named in the session.
func (s *session) options() (map[string]string, error) {
	r := s.request
	o := map[string]string{}
	set := func(name, value string) {
		if value != "" {
			o[name] = value
		}
	}
	set("target", r.Target)
	set("platform", strings.Join(r.Platforms, ","))
	set("image-resolve-mode", map[Pull]string{PullAlways: "pull", PullNever: "local"}[r.Pull])
	set("force-network-mode", r.Network)
	set("hostname", r.Hostname)
	set("cgroup-parent", r.CgroupParent)
	if r.ShmSize > 0 {
		set("shm-size", strconv.FormatInt(r.ShmSize, 10))
	}
	for k, v := range r.Args {
		o["build-arg:"+k] = v
	}
	if r.Epoch != nil {
		o["build-arg:SOURCE_DATE_EPOCH"] = strconv.FormatInt(r.Epoch.Unix(), 10)
	}
	for k, v := range r.Labels {
		o["label:"+k] = v
	}
	if r.NoCache {
		o["no-cache"] = ""
	} else {
		set("no-cache", strings.Join(r.NoCacheFilter, ","))
	}
	s.limits(set)
	if err := s.hosts(set); err != nil {
		return nil, err
	}
	return o, s.contexts(set)
}

// limits are what bounds commands.
func (s *session) limits(set func(name, value string)) {
	r := s.request.Resources
	for name, v := range map[string]int64{"memory": r.Memory, "memswap": r.MemorySwap, "cpuquota": r.CPUQuota, "cpushares": int64(r.CPUShares), "cpuperiod": int64(r.CPUPeriod)} {
		if v != 0 {
			set(name, strconv.FormatInt(v, 10))
		}
	}
	set("cpusetcpus", r.CPUSet)
	set("cpusetmems", r.CPUSetMems)
	var limits []string
	for _, u := range s.request.Ulimits {
		limits = append(limits, fmt.Sprintf("%s=%d:%d", u.Name, u.Soft, u.Hard))
	}
	set("ulimit", strings.Join(limits, ","))
}

func (s *session) hosts(set func(name, value string)) error {
	var hosts []string
	for i, h := range s.request.ExtraHosts {
		name, address, err := splitHost(h)
		if err != nil {
			return fmt.Errorf("Request.ExtraHosts[%d]: %w", i, err)
		}
		hosts = append(hosts, name+"="+address)
	}
	set("add-hosts", strings.Join(hosts, ","))
	return nil
}

// splitHost reads NAME:ADDRESS or, as Docker does, NAME=ADDRESS. The address
// may be in brackets.
func splitHost(h string) (name, address string, err error) {
	i := strings.IndexAny(h, ":=")
	if i <= 0 || strings.ContainsAny(h[:i], ", \t\n\"") {
		return "", "", invalid("%q is not NAME:ADDRESS", h)
	}
	name, address = h[:i], strings.Trim(h[i+1:], "[]")
	if address == "host-gateway" {
		return name, hostGateway, nil
	}
	if _, err := netip.ParseAddr(address); err != nil || strings.Contains(address, "%") {
		return "", "", invalid("%q has no address", h)
	}
	return name, address, nil
}

// contexts names the caller's trees for the frontend.
func (s *session) contexts(set func(name, value string)) error {
	r := s.request
	tree, file, err := s.dockerfile()
	if err != nil {
		return err
	}
	set("filename", file)
	if r.Context.URL != "" {
		set("context", r.Context.URL)
	} else {
		s.addLocal(localContext, newLocal(r.Context))
		if tree == localContext {
			s.addLocal(localDockerfile, s.locals[localContext])
		}
	}
	if tree == localDockerfile && r.Context.URL != "" {
		set("dockerfilekey", localDockerfile) // not the one of the URL
	}
	for i, name := range sortedKeys(r.Contexts) {
		value, err := s.named(name, i, r.Contexts[name])
		if err != nil {
			return fmt.Errorf("Request.Contexts[%q]: %w", name, err)
		}
		set("context:"+contextName(name), value)
	}
	return nil
}

// contextName is a name as the frontend looks it up: "base:latest" is "base".
func contextName(name string) string {
	platform := ""
	if i := strings.Index(name, "::"); i >= 0 {
		name, platform = name[:i], name[i:]
	}
	return strings.TrimSuffix(name, ":latest") + platform
}

// named is what the frontend knows a named context by.
func (s *session) named(name string, i int, c Context) (string, error) {
	switch {
	case c.URL != "":
		return c.URL, nil
	case c.Image != "":
		return "docker-image://" + c.Image, nil
	case c.Layout != "":
		d, err := layoutImage(c.Layout, c.Ref)
		if err != nil {
			return "", err
		}
		id := "layout" + strconv.Itoa(i)
		s.layouts[id] = c.Layout
		return "oci-layout://" + id + "@" + string(d), nil
	case c.Result != nil:
		d, err := digest.Parse(c.Result.Manifest)
		if err != nil {
			return "", invalid("the result is no image in the store")
		}
		return "oci-layout://" + storeLayout + "@" + string(d), nil
	}
	id := "context-" + strconv.Itoa(i)
	s.addLocal(id, newLocal(c))
	return "local:" + id, nil
}

// newLocal is a tree of the caller; nothing at all is an empty one.
func newLocal(c Context) *local {
	l := &local{context: c}
	if c.Dir == "" && c.FS == nil && c.Tar == nil {
		l.memory = memory{}
	}
	return l
}

// relative cleans a path in a context.
func relative(name string) (string, bool) {
	name = path.Clean(strings.ReplaceAll(name, "\\", "/"))
	return name, name != ".." && !strings.HasPrefix(name, "../")
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
