// Command import makes an image of the tar on its standard input and names it.
//
//	import ROOT STATE NAME
package main

import (
	"context"
	"log"
	"os"

	"github.com/amphora-go/amphora"
)

func main() {
	ctx := context.Background()
	eng, err := amphora.Open(ctx, &amphora.Options{Root: os.Args[1], State: os.Args[2]})
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close()
	img, err := eng.Images().Import(ctx, os.Stdin, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := eng.Images().Tag(ctx, img.ID(), os.Args[3]); err != nil {
		log.Fatal(err)
	}
}
