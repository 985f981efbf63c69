package network

import (
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
)

// Names that are no networks, each allowed as the only Endpoint.
const (
	None = "none" // a loopback interface and nothing else
	Host = "host" // the host's own interfaces
)

// containerPrefix begins the Network of a container that joins another's.
const containerPrefix = "container:"

// Container is the Network of a container that shares the network of another
// one, by its name or id.
func Container(ref string) string { return containerPrefix + ref }

// Endpoint is one connection of a container.
type Endpoint struct {
	Network string `json:"network"` // None, Host or Container(ref)
}

// Joined returns whose network the endpoint shares, if it shares one.
func (e Endpoint) Joined() (ref string, ok bool) {
	return strings.CutPrefix(e.Network, containerPrefix)
}

// Validate checks the endpoint without looking at the machine.
func (e Endpoint) Validate() error {
	if ref, ok := e.Joined(); ok && ref == "" || e.Network == "" {
		return fault.Invalid("network %q: use none, host, or container:NAME", e.Network)
	}
	if _, ok := e.Joined(); ok || e.Network == None || e.Network == Host {
		return nil
	}
	return fault.Unsupported("network %q: networks of their own are not available yet; use none, host, or container:NAME", e.Network)
}
