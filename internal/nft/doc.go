// Package nft is the packet filter of one Root: one nftables table, written by
// netlink, that translates published ports, masquerades, and keeps networks
// apart. Its chains never change; networks and ports are elements of its sets
// and maps, so that a packet and an attachment cost the same with one port and
// with ten thousand.
//
// A container may only send with an address that is reached through the bridge
// it sends to. So a published port of a container on several networks must lead
// to its address on the network of its default route: an answer to the outside
// goes that way, and is dropped with the address of another.
package nft

import "net/netip"

// Table is the table amphora_<id8> of one Root in one network namespace. It
// holds no state and needs no Close; it is safe for concurrent use, in any
// number of processes.
type Table struct {
	Name   string // amphora_<id8>
	Prefix string // of all bridges of this Root: "amp<id4>"
	NetNS  int    // descriptor of a network namespace; 0: that of the calling thread
}

// Chain is a base chain of somebody else that drops forwarded packets of ours,
// whatever our own table says.
type Chain struct {
	Family  string // ip, ip6, inet
	Table   string
	Name    string
	Why     string // what drops: its policy, or a rule for everything
	Command string // adds what lets our bridges pass
}

// New is the table of the Root with that id, of 8 hex digits. It touches
// nothing.
func New(rootID string) *Table {
	return &Table{Name: "amphora_" + rootID, Prefix: "amp" + rootID[:4]}
}

// Bridge is what the filter knows of a network.
type Bridge struct {
	Name       string         // of the interface
	Subnets    []netip.Prefix // of both families
	Masquerade bool           // what leaves for elsewhere gets the host's address
	Internal   bool           // nothing is routed to it or from it
	Open       bool           // routed to and from other open bridges
}

// Port is a published port.
type Port struct {
	Protocol string         // tcp, udp, sctp
	Host     netip.Addr     // zero: every address of the host, of To's family
	HostPort uint16         // port on the host
	To       netip.AddrPort // in the container
}
