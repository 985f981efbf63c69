package build

import "time"

// EventKind says what happened.
type EventKind string

// Kinds of events. A step has one of StepCached, StepDone and StepFailed at its
// end, and StepStarted before that.
const (
	StepStarted  EventKind = "started"
	StepCached   EventKind = "cached"
	StepDone     EventKind = "done"
	StepFailed   EventKind = "failed"
	StepLog      EventKind = "log"      // output of a command
	StepProgress EventKind = "progress" // of a transfer
	Warned       EventKind = "warning"
)

// Event is one thing that happened in a build.
type Event struct {
	Time time.Time
	Kind EventKind
	Step Step // zero for a warning

	Stderr bool   // StepLog: which stream
	Data   []byte // StepLog: the bytes; valid during the call only

	Item           string // StepProgress: what is transferred; a step may have several
	Current, Total int64  // StepProgress: bytes; Total is 0 if it is not known

	Err     error    // StepFailed
	Warning *Warning // Warned
}

// Step is one operation of a build.
type Step struct {
	ID       string   // the same in all events of the step, and no other's in the build
	Name     string   // such as "[build 2/5] RUN make"
	Inputs   []string // steps that must be done before
	Internal bool     // of no interest to most
	Places   []Place  // where it stands
}

// Place is a range of lines of a Dockerfile, counted from 1.
type Place struct {
	File        string
	First, Last int
}

// Warning is what lint has to say about a Dockerfile.
type Warning struct {
	Rule   string // such as "StageNameCasing"
	Text   string // what is wrong here
	Detail string // what the rule is about
	URL    string // where it is described
	Places []Place
}
