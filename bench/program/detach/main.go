// Command detach makes containers that outlive it. Each line of its input is
// "start NAME COMMAND...", answered with the process's number on the host;
// "wait NAME", answered with the container's id; or "remove NAME".
//
//	detach ROOT STATE HELPER NETWORK IMAGE
package main

import (
	"context"
	"log"
	"os"
	"strconv"

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
		if words[0] == "start" {
			cmd := eng.Command(ctx, os.Args[5], words[2:]...) // for its Spec
			cmd.Name, cmd.Networks = words[1], []network.Endpoint{{Network: os.Args[4]}}
			c, err := eng.Containers().Create(ctx, &cmd.Spec, nil)
			if err != nil {
				return "", err
			}
			if err := c.Start(ctx); err != nil {
				return "", err
			}
			info, err := c.Inspect(ctx)
			if err != nil {
				return "", err
			}
			return strconv.Itoa(info.Pid), nil
		}
		c, err := eng.Containers().Get(ctx, words[1])
		if err != nil {
			return "", err
		}
		if words[0] == "wait" {
			_, err := c.Wait(ctx, "")
			return c.ID(), err
		}
		c.Signal(ctx, "KILL") // it may have ended
		if _, err := c.Wait(ctx, ""); err != nil {
			return "", err
		}
		return "", c.Remove(ctx, nil)
	})
}
