package solve

import (
	"context"
	"errors"
	"time"

	"github.com/amphora-go/amphora/internal/build/op"
)

// States of an operation, as events tell them.
const (
	Started = "started" // it is being executed
	Cached  = "cached"  // its result is known
	Done    = "done"
	Failed  = "failed"
	Log     = "log" // it has written something
)

// Event is something that happened to an operation.
type Event struct {
	Time   time.Time
	Vertex *op.Vertex
	State  string
	Err    error  // of Failed
	Stderr bool   // of Log
	Data   []byte // of Log
}

func (b *Build) event(e Event) {
	if b.opts.Events == nil {
		return
	}
	e.Time = time.Now()
	b.events.Lock()
	defer b.events.Unlock()
	b.opts.Events(e)
}

// report says how an execution ended. What was cut short by somebody else's
// failure is no failure of its own.
func (j *job) report(err error) {
	switch {
	case err == nil && j.executed:
		j.b.event(Event{Vertex: j.v, State: Done})
	case err == nil:
		j.b.event(Event{Vertex: j.v, State: Cached})
	default:
		var by *Error
		if errors.As(err, &by) && by.Vertex != j.v || errors.Is(err, context.Canceled) || errors.Is(err, errClosed) {
			return
		}
		j.b.event(Event{Vertex: j.v, State: Failed, Err: err})
	}
}
