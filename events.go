package amphora

import (
	"context"
	"iter"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/journal"
)

// ErrTooOld says that events after the number asked for are no longer kept.
var ErrTooOld = journal.ErrTooOld

// Event is one change of an object. Numbers are unique and rise by one, but
// for a jump at each restart of the machine.
type Event struct {
	Seq        uint64            `json:"seq"`
	Time       time.Time         `json:"time"`
	Type       string            `json:"type"`   // container, image, volume
	Action     string            `json:"action"` // in Docker's words: create, start, die ...
	ID         string            `json:"id"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// EventOptions choose what Events yields. The zero value is all that is kept.
type EventOptions struct {
	Since  uint64    // events with a greater number
	After  time.Time // events later than that
	Follow bool      // go on until the context ends
	Tail   bool      // only what happens from now on; with Follow
}

// Events yields what happened to the Root's objects, by whatever process, in
// order and without gaps. If Since is older than what is kept, the error Is
// ErrTooOld. An error is the last thing yielded.
func (e *Engine) Events(ctx context.Context, opts *EventOptions) iter.Seq2[Event, error] {
	if opts == nil {
		opts = &EventOptions{}
	}
	read := &journal.ReadOptions{Since: opts.Since, After: opts.After, Follow: opts.Follow, Tail: opts.Tail}
	return func(yield func(Event, error) bool) {
		for ev, err := range e.root.Log.Read(ctx, read) {
			if err != nil {
				yield(Event{}, fault.New("events", "", err))
				return
			}
			if !yield(Event(ev), nil) {
				return
			}
		}
	}
}
