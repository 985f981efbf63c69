// Command attach connects bare network namespaces. Each line of its input is
// "create NETWORK [SUBNET...]"; "attach NETWORK NAME=PATH...", all at once,
// answered with their addresses; or "detach NAME...", all at once.
//
//	attach ROOT STATE
package main

import (
	"context"
	"log"
	"net/netip"
	"os"
	"strings"

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
	m := eng.Networks()
	loop.Do(func(words []string) (string, error) {
		switch words[0] {
		case "create":
			spec := &network.Spec{Name: words[1]}
			for _, s := range words[2:] {
				prefix, err := netip.ParsePrefix(s)
				if err != nil {
					return "", err
				}
				spec.Subnets = append(spec.Subnets, network.Subnet{Prefix: prefix})
			}
			_, err := m.Create(ctx, spec)
			return "", err
		case "attach":
			return all(words[2:], func(word string) (string, error) {
				name, path, _ := strings.Cut(word, "=")
				made, err := m.Attach(ctx, name, path, network.Endpoint{Network: words[1]})
				if err != nil {
					return "", err
				}
				var addrs []string
				for _, a := range made[0].Addresses {
					addrs = append(addrs, a.Addr().String())
				}
				return strings.Join(addrs, " "), nil
			})
		}
		return all(words[1:], func(name string) (string, error) { return "", m.Detach(ctx, name) })
	})
}

// all calls f for each word at once.
func all(words []string, f func(string) (string, error)) (string, error) {
	texts, errs := make(chan string), make(chan error, len(words))
	for _, w := range words {
		go func() {
			text, err := f(w)
			errs <- err
			texts <- text
		}()
	}
	var got []string
	var err error
	for range words {
		got = append(got, <-texts)
		if e := <-errs; e != nil {
			err = e
		}
	}
	return strings.Join(got, " "), err
}
