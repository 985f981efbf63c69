package jail

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Capabilities applies add and drop to the default set. ALL means what the
// machine has to give: available.
func Capabilities(add, drop, available []string) ([]string, error) {
	adds, addAll, err := capNames(add)
	if err != nil {
		return nil, err
	}
	drops, dropAll, err := capNames(drop)
	if err != nil {
		return nil, err
	}
	base := Caps
	switch {
	case addAll:
		base = available
	case dropAll:
		base = nil
	}
	set := map[string]bool{}
	for _, c := range base {
		set[c] = !drops[c]
	}
	for c := range adds {
		set[c] = true
	}
	var out []string
	for _, c := range AllCaps {
		if set[c] {
			out = append(out, c)
		}
	}
	return out, nil
}

func capNames(names []string) (set map[string]bool, all bool, err error) {
	set = map[string]bool{}
	for _, n := range names {
		n = strings.ToUpper(n)
		if n == "ALL" {
			all = true
			continue
		}
		if !strings.HasPrefix(n, "CAP_") {
			n = "CAP_" + n
		}
		if !slices.Contains(AllCaps, n) {
			return nil, false, fault.Invalid("unknown capability %q; use a name of capabilities(7), or ALL", n)
		}
		set[n] = true
	}
	return set, all, nil
}

// Mounts are what every container has, before those it is given. Size is that
// of /dev/shm in bytes; 0: Shm.
func Mounts(privileged bool, size int64) []specs.Mount {
	sys, group := "ro", "ro"
	if privileged {
		sys, group = "rw", "rw"
	}
	if size == 0 {
		size = Shm
	}
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", sys}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", group}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprintf("size=%d", size)}},
	}
}

// Namespaces are those of a container, with a network of its own or without.
// Unified says that the machine has cgroup v2 only.
func Namespaces(network, unified bool) []specs.LinuxNamespace {
	ns := []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}}
	if network {
		ns = append(ns, specs.LinuxNamespace{Type: specs.NetworkNamespace}) // a joined one gets its path at the start
	}
	if unified {
		ns = append(ns, specs.LinuxNamespace{Type: specs.CgroupNamespace}) // Docker's default on v2 only
	}
	return ns
}

// Mask hides what Docker hides.
func Mask(oci *specs.Spec) {
	oci.Linux.MaskedPaths = slices.Clone(maskedPaths)
	oci.Linux.ReadonlyPaths = slices.Clone(readonlyPaths)
	slices.Sort(oci.Linux.MaskedPaths)
}

// Profile is a seccomp profile in JSON, or the default one, as it applies to
// the configuration. Nil: none.
func Profile(oci *specs.Spec, text string) (*specs.LinuxSeccomp, error) {
	switch text {
	case Unconfined:
		return nil, nil
	case "":
		return seccomp.Default(oci)
	}
	p, err := seccomp.Parse([]byte(text), oci)
	if err != nil {
		return nil, fault.Invalid("seccomp profile: %w", err)
	}
	return p, nil
}

// Filter compiles a profile, or finds it compiled, and names the file in a
// store's directory. No profile is no file.
func Filter(ctx context.Context, root string, p *specs.LinuxSeccomp) (string, error) {
	if p == nil {
		return "", nil
	}
	return seccomp.Cached(ctx, filepath.Join(root, "seccomp"), p, runtime.GOARCH)
}

// Devices sets which devices may be used: those given, and the few that every
// process needs, which the runtime adds itself.
func Devices(oci *specs.Spec) {
	oci.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
}

// AllDevices gives all devices of the host.
func AllDevices(oci *specs.Spec, all []specs.LinuxDevice) {
	oci.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	oci.Linux.Devices = all
}
