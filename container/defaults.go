package container

import (
	"fmt"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/opencontainers/runtime-spec/specs-go"
)

const (
	defaultPath    = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	defaultShm     = 64 << 20 // bytes, as Docker
	minMemory      = 6 << 20  // bytes: below, runtimes fail to start (Docker's floor)
	cpuPeriod      = 100000   // µs: the kernel's default period of CFS bandwidth
	defaultTimeout = 10       // s, Docker's grace time of stop
)

// defaultCaps are Docker's.
var defaultCaps = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// allCaps are those of Linux 5.9 and later, in the kernel's order.
var allCaps = strings.Fields(`CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID
	CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK CAP_IPC_OWNER
	CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE
	CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP
	CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE`)

// Paths of /proc and /sys that tell of the host or change it, as Docker
// hides and protects them.
var (
	maskedPaths = []string{"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// capabilities applies add and drop to the default set. Privileged and ALL
// mean what the machine has to give.
func capabilities(s *Security, available []string) ([]string, error) {
	if s.Privileged {
		return available, nil
	}
	add, addAll, err := capNames(s.CapAdd)
	if err != nil {
		return nil, err
	}
	drop, dropAll, err := capNames(s.CapDrop)
	if err != nil {
		return nil, err
	}
	base := defaultCaps
	switch {
	case addAll:
		base = available
	case dropAll:
		base = nil
	}
	set := map[string]bool{}
	for _, c := range base {
		set[c] = !drop[c]
	}
	for c := range add {
		set[c] = true
	}
	var out []string
	for _, c := range allCaps {
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
		known := false
		for _, c := range allCaps {
			known = known || c == n
		}
		if !known {
			return nil, false, fault.Invalid("unknown capability %q; use a name of capabilities(7), or ALL", n)
		}
		set[n] = true
	}
	return set, all, nil
}

// baseMounts are what every container has, before those of its Spec.
func baseMounts(spec *Spec) []specs.Mount {
	sys, group := "ro", "ro"
	if spec.Security.Privileged {
		sys, group = "rw", "rw"
	}
	shm := spec.Resources.ShmSize
	if shm == 0 {
		shm = defaultShm
	}
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", sys}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", group}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprintf("size=%d", shm)}},
	}
}
