package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/amphora-go/amphora/container"
)

// defineResources are the limits.
func (s *specFlags) defineResources(f *flags) {
	r := &s.Resources
	value(f, &r.Memory, "m,memory", "Memory limit (`bytes`)", parseBytes)
	value(f, &r.MemoryReservation, "memory-reservation", "Memory soft limit (`bytes`)", parseBytes)
	value(f, &r.MemorySwap, "memory-swap", "Limit of memory plus swap (`bytes`); -1: no limit of swap", parseSwap)
	value(f, &r.CPUs, "cpus", "Limit to a `number` of CPUs", parseFloat)
	value(f, &r.CPUShares, "c,cpu-shares", "CPU shares (relative `weight`)", parseNumber[uint64])
	f.text(&r.CPUSet, "cpuset-cpus", "Allow execution on these `CPUs` only, such as 0-3,7")
	f.text(&r.CPUSetMems, "cpuset-mems", "Allow memory of these `nodes` only, such as 0-3")
	value(f, &r.Pids, "pids-limit", "Limit of processes (`number`; -1: none)", parseNumber[int64])
	value(f, &r.BlkioWeight, "blkio-weight", "Block IO relative `weight`, 10 to 1000", parseNumber[uint16])
	value(f, &r.ShmSize, "shm-size", "Size of /dev/shm (`bytes`)", parseBytes)
	value(f, &r.OOMScoreAdj, "oom-score-adj", "Tune the host's OOM preferences by a `score` from -1000 to 1000", parseNumber[int])
	each(f, "ulimit", "Ulimit options (`name=soft[:hard]`)", func(u string) error {
		l, err := parseUlimit(u)
		r.Ulimits = append(r.Ulimits, l)
		return err
	})
	each(f, "device", "Add a host device (`path[:target[:rwm]]`)", func(d string) error {
		r.Devices = append(r.Devices, parseDevice(d))
		return nil
	})
	each(f, "sysctl", "Sysctl options (`key=value`)", func(kv string) error {
		key, v, ok := strings.Cut(kv, "=")
		if !ok || key == "" {
			return errors.New("want KEY=VALUE, such as net.core.somaxconn=1024")
		}
		if r.Sysctls == nil {
			r.Sysctls = map[string]string{}
		}
		r.Sysctls[key] = v
		return nil
	})
}

// each defines a flag that a function is told about each time.
func each(f *flags, name, usage string, set func(string) error) {
	value(f, new(struct{}), name, usage, func(s string) (struct{}, error) { return struct{}{}, set(s) })
}

func parseUlimit(s string) (u container.Ulimit, err error) {
	bad := fmt.Errorf("want NAME=SOFT[:HARD], such as nofile=1024:2048")
	name, limits, ok := strings.Cut(s, "=")
	if !ok {
		return u, bad
	}
	soft, hard, both := strings.Cut(limits, ":")
	if !both {
		hard = soft
	}
	u.Name = name
	if u.Soft, err = strconv.ParseInt(soft, 10, 64); err != nil {
		return u, bad
	}
	if u.Hard, err = strconv.ParseInt(hard, 10, 64); err != nil {
		return u, bad
	}
	return u, nil
}

func parseDevice(s string) (d container.Device) {
	parts := strings.SplitN(s, ":", 3)
	d.Path = parts[0]
	if len(parts) == 2 && strings.Trim(parts[1], "rwm") == "" {
		d.Permissions = parts[1]
		return d
	}
	if len(parts) > 1 {
		d.Target = parts[1]
	}
	if len(parts) > 2 {
		d.Permissions = parts[2]
	}
	return d
}

// defineSecurity is how the container is confined.
func (s *specFlags) defineSecurity(f *flags) {
	sec := &s.Security
	f.bool(&sec.ReadOnly, "read-only", "Mount the container's root filesystem as read only")
	f.list(&sec.CapAdd, "cap-add", "Add Linux capabilities")
	f.list(&sec.CapDrop, "cap-drop", "Drop Linux capabilities")
	f.bool(&sec.Privileged, "privileged", "Give extended privileges to this container")
	each(f, "security-opt", "Security `option`: no-new-privileges, seccomp=FILE, seccomp=unconfined, apparmor=PROFILE or systempaths=unconfined", s.securityOption)
}

func (s *specFlags) securityOption(o string) error {
	sec := &s.Security
	key, v, _ := strings.Cut(o, "=")
	if key == o {
		key, v, _ = strings.Cut(o, ":") // Docker's older notation
	}
	switch {
	case key == "no-new-privileges" && (v == "" || v == "true" || v == "false"):
		sec.NoNewPrivileges = v != "false"
	case key == "seccomp" && v == container.Unconfined:
		sec.Seccomp = v
	case key == "seccomp" && v == "builtin":
		sec.Seccomp = ""
	case key == "seccomp" && v != "":
		profile, err := os.ReadFile(v)
		if err != nil {
			return err
		}
		sec.Seccomp = string(profile)
	case key == "apparmor" && v != "":
		sec.AppArmor = v
	case key == "systempaths" && v == container.Unconfined:
		sec.UnmaskPaths = true
	default:
		return errors.New("want no-new-privileges, seccomp=FILE, seccomp=unconfined, apparmor=PROFILE or systempaths=unconfined")
	}
	return nil
}
