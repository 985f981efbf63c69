// Command list lists and inspects containers. Each line of its input is
// "create NAME", "list", answered with how many there are, or "inspect NAME".
//
//	list ROOT STATE IMAGE
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
	eng, err := amphora.Open(ctx, &amphora.Options{Root: os.Args[1], State: os.Args[2]})
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close()
	loop.Do(func(words []string) (string, error) {
		switch words[0] {
		case "create":
			cmd := eng.Command(ctx, os.Args[3], "true") // for its Spec
			cmd.Name, cmd.Networks = words[1], []network.Endpoint{{Network: network.None}}
			_, err := eng.Containers().Create(ctx, &cmd.Spec, nil)
			return "", err
		case "inspect":
			c, err := eng.Containers().Get(ctx, words[1])
			if err != nil {
				return "", err
			}
			_, err = c.Inspect(ctx)
			return "", err
		}
		all, err := eng.Containers().List(ctx, nil)
		return strconv.Itoa(len(all)), err
	})
}
