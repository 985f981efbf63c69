package amphora

import (
	"context"
	"iter"
	"slices"
	"strings"
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
	Type       string            `json:"type"`   // container, image, network, volume
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
	Filter *EventFilter
}

// EventFilter chooses events, as Docker's filters do: values of one field are
// alternatives, fields must all match. What it leaves out still counts in the
// numbers.
type EventFilter struct {
	Types   []string // container, image, network, volume
	Actions []string // create, start, die ...; "health_status" is every state of health
	Labels  []string // "key" or "key=value", all of which the object must have

	// Objects, by name or beginning of the id. Images also chooses the events of
	// the containers made from them.
	Containers, Images, Networks, Volumes []string
}

// Match says whether the filter lets an event pass. Nil lets all pass.
func (f *EventFilter) Match(e *Event) bool {
	if f == nil {
		return true
	}
	any := func(want []string, ok func(string) bool) bool { return len(want) == 0 || slices.ContainsFunc(want, ok) }
	labelled := !slices.ContainsFunc(f.Labels, func(l string) bool {
		k, v, valued := strings.Cut(l, "=")
		have, ok := e.Attributes[k]
		return !ok || valued && have != v
	})
	action, _, _ := strings.Cut(e.Action, ":")
	return labelled && any(f.Types, func(t string) bool { return t == e.Type }) &&
		any(f.Actions, func(a string) bool { return a == e.Action || a == action }) && f.object(e)
}

// object says whether the event is of one of the objects asked for.
func (f *EventFilter) object(e *Event) bool {
	asked := false
	for kind, refs := range map[string][]string{"container": f.Containers, "image": f.Images, "network": f.Networks, "volume": f.Volumes} {
		for _, ref := range refs {
			asked = true
			if e.Type == kind && ref != "" && (e.Attributes["name"] == ref || strings.HasPrefix(strings.TrimPrefix(e.ID, "sha256:"), strings.TrimPrefix(ref, "sha256:"))) ||
				kind == "image" && e.Type == "container" && e.Attributes["image"] == ref {
				return true
			}
		}
	}
	return !asked
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
			if out := Event(ev); opts.Filter.Match(&out) && !yield(out, nil) {
				return
			}
		}
	}
}
