// Package network asks who reaches what, between this machine, somebody outside
// and containers, beside other container engines and firewalls, and writes
// docs/network.md. Every test runs in network and mount namespaces of its own,
// dockerd and podman with it, on directories of their own.
//
// It wants what Debian's packages docker.io, podman, iptables, nftables and
// firewalld have, and skips what is missing.
package network
