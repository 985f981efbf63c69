//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// moreSignals passes on what a process may be sent, besides SIGINT and
// SIGTERM, that does not concern this program itself. They are not given back:
// the program is about to end, and each would cost it two hand-overs between
// threads.
func moreSignals(take func(os.Signal)) {
	c := make(chan os.Signal, 16)
	signal.Notify(c, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGCONT)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup(1) has it
		signal.Notify(c, syscall.SIGHUP)
	}
	go func() {
		for s := range c {
			take(s)
		}
	}()
}

// followSize tells set the size of the terminal at open, and whenever it
// changes from then on.
func (a *app) followSize(set func(width, height uint16)) (open, stop func()) {
	c := make(chan os.Signal, 1)
	open = func() {
		signal.Notify(c, syscall.SIGWINCH)
		go func() {
			for ; ; <-c { // at once: it may have changed since the container was made
				if w, h := a.terminalSize(); w > 0 && h > 0 {
					set(w, h)
				}
			}
		}()
	}
	return open, func() { signal.Stop(c) }
}
