//go:build !linux

package dns

import (
	"os"

	"github.com/amphora-go/amphora/internal/fault"
)

// Server answers one container. There is none on this system.
type Server struct{}

// Listen returns an error: containers need Linux.
func Listen(_ *os.File, c *Config) (*Server, error) {
	if _, err := c.Upstream.parse(); err != nil {
		return nil, err
	}
	return nil, fault.Unsupported("the resolver of containers needs Linux")
}

// SetNetworks does nothing.
func (*Server) SetNetworks([]Network) {}

// Close does nothing.
func (*Server) Close() error { return nil }
