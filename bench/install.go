package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
)

// packages of Debian that hold the programs we need.
var packages = map[string][]string{ // by peer; "" is always wanted
	"":       {"busybox", "busybox-static", "ip", "iproute2"},
	"docker": {"dockerd", "docker.io", "iptables", "iptables"},
	"podman": {"podman", "podman", "conmon", "conmon", "runc", "runc", "/usr/lib/podman/netavark", "netavark",
		"/usr/lib/podman/aardvark-dns", "aardvark-dns"},
	"runc":     {"runc", "runc"},
	"registry": {"docker-registry", "docker-registry"},
}

// install gets what is missing, if this is a Debian and we are root. It starts
// no service: nothing of the host's shall run because we wanted to measure.
func (b *bench) install(ctx context.Context) {
	var missing []string
	for peer, pairs := range packages {
		if peer != "" && !b.wants(peer) {
			continue
		}
		for pair := range slices.Chunk(pairs, 2) {
			if _, err := exec.LookPath(pair[0]); err != nil {
				missing = append(missing, pair[1])
			}
		}
	}
	if len(missing) == 0 {
		return
	}
	if _, err := exec.LookPath("apt-get"); err != nil || os.Getuid() != 0 {
		b.note("missing here: %v", missing)
		return
	}
	const policy = "/usr/sbin/policy-rc.d" // asked by packages before they start a service; 101 forbids it
	if _, err := os.Stat(policy); os.IsNotExist(err) {
		if os.WriteFile(policy, []byte("#!/bin/sh\nexit 101\n"), 0o755) == nil {
			defer os.Remove(policy)
		}
	}
	b.say("installing %v", missing)
	apt := &tool{argv: []string{"apt-get"}, env: []string{"DEBIAN_FRONTEND=noninteractive"}, dir: b.site.dir}
	slices.Sort(missing)
	err := apt.run(ctx, "update", "-qq")
	if err == nil {
		err = apt.run(ctx, append([]string{"install", "-y", "-qq", "--no-install-recommends"}, slices.Compact(missing)...)...)
	}
	if err != nil {
		b.note("%v", fmt.Errorf("could not install %v: %w", missing, err))
	}
}
