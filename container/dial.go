package container

import (
	"context"
	"net"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/shim"
)

// Dial connects from inside the container's network: "127.0.0.1:80" is the
// container's own loopback. No port needs to be published. network is as for
// net.Dial, tcp or udp; address is an IP address with a port.
func (c *Container) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := c.ask(ctx, func(client *shim.Client) error {
		f, err := client.Dial(ctx, network, address)
		if err != nil {
			return err
		}
		defer f.Close()
		conn, err = net.FileConn(f)
		return err
	})
	if err != nil {
		return nil, fault.New("container dial", c.ID()[:12]+" "+address, err)
	}
	return conn, nil
}
