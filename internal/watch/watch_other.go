//go:build !linux

package watch

import "time"

func open(string) (*Watcher, error) {
	t := time.NewTicker(20 * time.Millisecond)
	c := make(chan struct{}, 1)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			case <-t.C:
				select {
				case c <- struct{}{}:
				default:
				}
			}
		}
	}()
	return &Watcher{C: c, stop: func() error { t.Stop(); close(quit); <-done; return nil }}, nil
}
