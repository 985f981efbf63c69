//go:build !linux

package nft

import (
	"net/netip"

	"github.com/amphora-go/amphora/internal/fault"
)

var errLinux = fault.Unsupported("the packet filter is nftables, which only Linux has")

// AddBridge needs Linux.
func (t *Table) AddBridge(Bridge) error { return errLinux }

// RemoveBridge needs Linux.
func (t *Table) RemoveBridge(Bridge) error { return errLinux }

// AddPorts needs Linux.
func (t *Table) AddPorts(string, []Port) error { return errLinux }

// RemovePorts needs Linux.
func (t *Table) RemovePorts(string, []Port) error { return errLinux }

// Owners needs Linux.
func (t *Table) Owners() (map[string][]Port, error) { return nil, errLinux }

// Reset needs Linux.
func (t *Table) Reset([]Bridge, map[string][]Port) error { return errLinux }

// Drop needs Linux.
func (t *Table) Drop() error { return errLinux }

// Seal needs Linux.
func (t *Table) Seal() error { return errLinux }

// PassForeign needs Linux.
func (t *Table) PassForeign() error { return errLinux }

// RedirectDNS needs Linux.
func RedirectDNS(netns int, server netip.Addr, udp, tcp uint16) error { return errLinux }

// Foreign needs Linux.
func Foreign(netns int, bridges ...string) ([]Chain, error) { return nil, errLinux }

// Legacy needs Linux.
func Legacy(bridges ...string) ([]Chain, error) { return nil, errLinux }

// Passable needs Linux.
func (c *Chain) Passable() bool { return false }
