//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// moreSignals passes on what a process may be sent, besides SIGINT and
// SIGTERM, that does not concern this program itself.
func moreSignals(take func(os.Signal)) (stop func()) {
	c := make(chan os.Signal, 16)
	signal.Notify(c, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGCONT)
	go func() {
		for s := range c {
			take(s)
		}
	}()
	return func() { signal.Stop(c) }
}

// followSize tells set the size of the terminal, now and whenever it changes.
func (a *app) followSize(set func(width, height uint16)) (stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGWINCH)
	c <- syscall.SIGWINCH // it may have changed since the container was made
	go func() {
		for range c {
			if w, h := a.terminalSize(); w > 0 && h > 0 {
				set(w, h)
			}
		}
	}()
	return func() { signal.Stop(c) }
}
