//go:build !unix

package main

import "os"

func moreSignals(func(os.Signal)) {}

func (a *app) followSize(func(width, height uint16)) (open, stop func()) {
	return func() {}, func() {}
}
