// Command amphora-helper is a program for amphora's Options.Helper: it is
// executed for containers' supervisors instead of the embedding program, whose
// package inits and cgo they then do without.
//
// It takes no arguments and does nothing when run by hand.
package main

import (
	"fmt"
	"os"

	_ "github.com/amphora-go/amphora/internal/shim" // its init() takes over when executed as a helper
)

func main() {
	fmt.Fprintln(os.Stderr, "amphora-helper: name this program in amphora's Options.Helper; it is not run by hand")
	os.Exit(2)
}
