// Package watch wakes a reader when files in a directory change. A wake-up
// carries no meaning but "look again", so that one too many does no harm.
package watch

// Watcher delivers a value on C after changes, coalesced. Close ends it.
type Watcher struct {
	C    <-chan struct{}
	stop func() error
}

// Dir watches one directory for files created, renamed into it, written to
// or deleted. Where the kernel offers no notification it wakes every 20 ms.
func Dir(path string) (*Watcher, error) { return open(path) }

// Close releases the watcher. It is idempotent.
func (w *Watcher) Close() error {
	if w.stop == nil {
		return nil
	}
	stop := w.stop
	w.stop = nil
	return stop()
}
