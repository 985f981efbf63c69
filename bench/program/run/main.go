// Command run starts containers, waits for their end and their removal: as
// many at once as each line of its input says.
//
//	run ROOT STATE HELPER IMAGE COMMAND [ARG...]
package main

import (
	"context"
	"log"
	"os"
	"strconv"
	"sync"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/bench/program/loop"
)

func main() {
	ctx := context.Background()
	eng, err := amphora.Open(ctx, &amphora.Options{Root: os.Args[1], State: os.Args[2], Helper: os.Args[3]})
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
			all.Go(func() { errs <- eng.Command(ctx, os.Args[4], os.Args[5:]...).Run() })
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
