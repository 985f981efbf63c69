// Command exec runs a command in a container that runs already, once for each
// line of its input.
//
//	exec ROOT STATE CONTAINER COMMAND [ARG...]
package main

import (
	"context"
	"log"
	"os"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/bench/program/loop"
)

func main() {
	ctx := context.Background()
	eng, err := amphora.Open(ctx, &amphora.Options{Root: os.Args[1], State: os.Args[2]})
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close()
	c, err := eng.Containers().Get(ctx, os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	loop.Do(func([]string) (string, error) { return "", c.Command(ctx, os.Args[4:]...).Run() })
}
