// Command run starts containers, waits for their end and their removal: as
// many at once as each line of its input says.
//
//	run ROOT STATE HELPER NETWORK PORT IMAGE COMMAND [ARG...]
//
// PORT is one of the container to publish on a free port of 127.0.0.1; empty:
// none.
package main

import (
	"context"
	"log"
	"os"
	"strconv"
	"sync"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/bench/program/loop"
	"github.com/amphora-go/amphora/network"
)

func main() {
	ctx := context.Background()
	eng, err := amphora.Open(ctx, &amphora.Options{Root: os.Args[1], State: os.Args[2], Helper: os.Args[3], KeepNetworks: true})
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close()
	loop.Do(func(words []string) (string, error) {
		n, err := strconv.Atoi(words[0])
		errs := make(chan error, n+1)
		errs <- err
		var all sync.WaitGroup
		for range n {
			all.Go(func() {
				cmd := eng.Command(ctx, os.Args[6], os.Args[7:]...)
				cmd.Networks = []network.Endpoint{{Network: os.Args[4]}}
				if port, err := strconv.ParseUint(os.Args[5], 10, 16); err == nil {
					cmd.Ports = []network.Port{{Container: uint16(port)}}
				}
				errs <- cmd.Run()
			})
		}
		all.Wait()
		for range n + 1 {
			if e := <-errs; e != nil {
				err = e
			}
		}
		return "", err
	})
}
