// Command images moves an image, for each line of its input:
//
//	pull ROOT STATE REFERENCE
//	push ROOT STATE REFERENCE [COMPRESSION]
//	save ROOT STATE REFERENCE FILE
//	load ROOT STATE FILE
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/bench/program/loop"
	"github.com/amphora-go/amphora/image"
)

func main() {
	ctx := context.Background()
	loop.Do(func(words []string) (string, error) {
		host, _, _ := strings.Cut(words[3], "/")
		eng, err := amphora.Open(ctx, &amphora.Options{Root: words[1], State: words[2], Insecure: []string{host}})
		if err != nil {
			return "", err
		}
		defer eng.Close()
		return "", do(ctx, eng.Images(), words)
	})
}

func do(ctx context.Context, images *image.Store, words []string) error {
	name := words[3]
	switch words[0] {
	case "pull":
		_, err := images.Pull(ctx, name, nil)
		return err
	case "push":
		o := &image.PushOptions{}
		if len(words) > 4 {
			o.Compress = words[4]
		}
		_, err := images.Push(ctx, name, o)
		return err
	case "save":
		f, err := os.Create(words[4])
		if err != nil {
			return err
		}
		return errors.Join(images.Save(ctx, f, []string{name}, nil), f.Close())
	case "load":
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = images.Load(ctx, f, nil)
		return err
	}
	return fmt.Errorf("unknown order %q", words[0])
}
