// Command connect connects a running container to a network and disconnects it
// again, once for each line of its input.
//
//	connect ROOT STATE CONTAINER NETWORK
package main

import (
	"context"
	"log"
	"os"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/bench/program/loop"
	"github.com/amphora-go/amphora/network"
)

func main() {
	ctx := context.Background()
	eng, err := amphora.Open(ctx, &amphora.Options{Root: os.Args[1], State: os.Args[2], KeepNetworks: true})
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close()
	c, err := eng.Containers().Get(ctx, os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	loop.Do(func([]string) (string, error) {
		if err := c.Connect(ctx, network.Endpoint{Network: os.Args[4]}); err != nil {
			return "", err
		}
		return "", c.Disconnect(ctx, os.Args[4])
	})
}
