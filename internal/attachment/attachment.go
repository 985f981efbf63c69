// Package attachment keeps one file for each connection of a namespace to a
// network: who is connected, under which names and addresses, with which
// published ports. The directory of a network is all that a resolver reads.
//
// Files live in State, are written by rename, and mean nothing after a reboot.
package attachment

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/fault"
)

const version = 1

// Attachment is one connection. Its addresses are those that it has, not those
// that were asked for.
type Attachment struct {
	Version   int    `json:"version"`
	Seq       uint64 `json:"seq"`       // of the event that says so
	Network   string `json:"network"`   // name of the network
	ID        string `json:"id"`        // of the container, or as the caller of Attach named it
	Interface string `json:"interface"` // in the namespace: "eth0"
	Container bool   `json:"container,omitempty"`

	// Names are what the resolver answers on this network, in lower case and
	// without dots at the end: container name, short id, host name, aliases.
	Names []string `json:"names,omitempty"`

	Addresses []netip.Prefix `json:"addresses,omitempty"`
	Gateways  []netip.Addr   `json:"gateways,omitempty"`
	MAC       string         `json:"mac,omitempty"`
	Aliases   []string       `json:"aliases,omitempty"` // of Names, those that were asked for
	Priority  int            `json:"priority,omitempty"`
	Metric    int            `json:"metric,omitempty"`   // of its default routes
	HostLink  string         `json:"hostLink,omitempty"` // the host's end of the cable
	Ports     []Port         `json:"ports,omitempty"`
	Moved     bool           `json:"moved,omitempty"` // Ports were another connection's before: CNI does not know them here

	NetNS    uint64            `json:"netns,omitempty"`    // inode of the namespace, in nsfs
	Path     string            `json:"path,omitempty"`     // of the namespace, for those that are no container's
	HostNS   uint64            `json:"hostns,omitempty"`   // inode of the namespace that holds the bridge
	Boot     string            `json:"boot,omitempty"`     // boot id
	Plugins  map[string]string `json:"plugins,omitempty"`  // type -> "builtin" or path: what did ADD does DEL
	Since    time.Time         `json:"since,omitzero"`     // attached at
	LockFile string            `json:"lockFile,omitempty"` // of whoever must live for this to be true; empty: ask the container's record
}

// Port is a published port as it is in force.
type Port struct {
	Protocol  string     `json:"protocol"`       // tcp, udp, sctp
	Host      netip.Addr `json:"host,omitzero"`  // zero: every address, of both families
	HostPort  uint16     `json:"hostPort"`       // never 0 here
	Container uint16     `json:"containerPort"`  // port in the namespace
	Held      bool       `json:"held,omitempty"` // the supervisor holds a socket on it
}

func (p Port) String() string {
	host := "*"
	if p.Host.IsValid() {
		host = p.Host.String()
		if p.Host.Is6() {
			host = "[" + host + "]"
		}
	}
	return fmt.Sprintf("%s:%d -> %d/%s", host, p.HostPort, p.Container, p.Protocol)
}

// Dir is the directory of a network's attachments below State.
func Dir(state, network string) string { return filepath.Join(state, "net", "attached", network) }

const suffix = ".json"

func file(state, network, id, ifname string) string {
	return filepath.Join(Dir(state, network), id+"."+ifname+suffix)
}

// Write stores a under its network, id and interface.
func Write(state string, a *Attachment) error {
	a.Version = version
	dir := Dir(state, a.Network)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fault.Opaque(err)
	}
	return fault.Opaque(atomicfile.WriteJSON(file(state, a.Network, a.ID, a.Interface), a, 0o600, false))
}

// Remove forgets one connection; a missing one is no error.
func Remove(state, network, id, ifname string) error {
	err := os.Remove(file(state, network, id, ifname))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fault.Opaque(err)
}

// Read returns one connection, or nil if there is none.
func Read(state, network, id, ifname string) (*Attachment, error) {
	a, err := Load(file(state, network, id, ifname))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return a, fault.Opaque(err)
}

// Load reads a file of an attachment directory.
func Load(path string) (*Attachment, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	a := new(Attachment)
	if err := json.Unmarshal(data, a); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", path, err)
	}
	if a.Version > version {
		return nil, fault.Unsupported("%s has format version %d, this program knows up to %d: update the program", path, a.Version, version)
	}
	return a, nil
}

// IsFile reports whether name, of a directory entry, is an attachment's: files
// that are being written have other names.
func IsFile(name string) bool {
	return strings.HasSuffix(name, suffix) && !strings.HasPrefix(name, ".")
}

// List returns all connections of a network. Files that cannot be read are left
// out and reported together.
func List(state, network string) ([]*Attachment, error) {
	entries, err := os.ReadDir(Dir(state, network))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Opaque(err)
	}
	var all []*Attachment
	var errs error
	for _, e := range entries {
		if !IsFile(e.Name()) {
			continue
		}
		a, err := Load(filepath.Join(Dir(state, network), e.Name()))
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone since
		case err != nil:
			errs = errors.Join(errs, fault.Opaque(err))
		default:
			all = append(all, a)
		}
	}
	return all, errs
}
