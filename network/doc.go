// Package network makes the networks of containers and connects to them.
//
// A network is a bridge on this host, with subnets of its own, a way out by
// the host's address, and names: containers on it reach each other by name.
// From outside only published ports are reached. Networks are stored as CNI
// configuration lists and need no plugin, iptables or nft program; macvlan is
// built in, too, and other CNI plugins are executed where they are installed.
//
// Containers are attached by package container. What this package adds for
// programs are [Network.Dial] and [Network.Listen], by which the program and
// its containers talk without published ports, and [Manager.Attach], which
// connects any network namespace.
//
// The default network, Bridge, is made when the first container needs it. It
// has no names. None and Host are no networks, but always listed.
package network
