// Command pull pulls an image into a new store, for each line of its input:
// "ROOT STATE REFERENCE".
package main

import (
	"context"
	"strings"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/bench/program/loop"
)

func main() {
	ctx := context.Background()
	loop.Do(func(words []string) (string, error) {
		host, _, _ := strings.Cut(words[2], "/")
		eng, err := amphora.Open(ctx, &amphora.Options{Root: words[0], State: words[1], Insecure: []string{host}})
		if err != nil {
			return "", err
		}
		defer eng.Close()
		img, err := eng.Images().Pull(ctx, words[2], nil)
		if err != nil {
			return "", err
		}
		return img.ID(), nil
	})
}
