// Command build builds an image each time its input says so: "same" from the
// cache, "all" without. "walk" looks at each file of the context once, with one
// call, and builds nothing.
//
//	build ROOT STATE HELPER CONTEXT NAME
package main

import (
	"context"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/bench/program/loop"
	"github.com/amphora-go/amphora/image/build"
)

func main() {
	ctx := context.Background()
	dir := os.Args[4]
	eng, err := amphora.Open(ctx, &amphora.Options{Root: os.Args[1], State: os.Args[2], Helper: os.Args[3], KeepNetworks: true})
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close()
	b, err := build.New(eng.Images(), &build.Options{Helper: os.Args[3]})
	if err != nil {
		log.Fatal(err)
	}
	loop.Do(func(words []string) (string, error) {
		if words[0] == "walk" {
			n, err := walk(dir)
			return fmt.Sprint(n), err
		}
		r := &build.Request{Context: build.Context{Dir: dir}, Tags: []string{os.Args[5]}, NoCache: words[0] == "all"}
		res, err := b.Build(ctx, r)
		if err != nil {
			return "", err
		}
		return res.ID, nil
	})
}

func walk(dir string) (n int, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		n++
		_, err = d.Info()
		return err
	})
	return n, err
}
