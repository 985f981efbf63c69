package build

import (
	"bytes"
	"fmt"
	"time"
)

// tailLines is how many lines of output are kept of a step: as many as docker
// build shows of one that failed.
const tailLines = 10

// maxLine is where a line of output that does not end is cut.
const maxLine = 16 << 10

// ledger is what is known of a build, for whoever shows it.
type ledger struct {
	begun    time.Time
	now      func() time.Time
	steps    []*shown // in the order in which they were heard of
	numbered int
	byID     map[string]*shown
	warnings []*Warning
}

// shown is one step.
type shown struct {
	Step
	number         int       // from 1, of those that are shown; 0: it is not
	kind           EventKind // the last of the kinds that say how a step stands
	started, ended time.Time
	err            error
	items          []*transfer
	fresh          []logLine // lines that the last event ended
	partial        []byte    // of a line that has not ended
	tail           []logLine
}

// logLine is a line of output, and when it came after the step began.
type logLine struct {
	at   time.Duration
	text string
}

func (l logLine) String() string { return fmt.Sprintf("%.3f %s", l.at.Seconds(), clean(l.text, true)) }

// transfer is something that is on its way.
type transfer struct {
	name           string
	current, total int64
	begun, last    time.Time
	told           time.Time // when a line about it was printed last
}

func newLedger() *ledger {
	return &ledger{begun: time.Now(), now: time.Now, byID: map[string]*shown{}}
}

// add takes note of an event and returns its step, nil for warnings.
func (j *ledger) add(e *Event) *shown {
	if e.Time.IsZero() {
		e.Time = j.now()
	}
	if e.Kind == Warned {
		if e.Warning != nil {
			j.warnings = append(j.warnings, e.Warning)
		}
		return nil
	}
	s := j.byID[e.Step.ID]
	if s == nil {
		s = &shown{Step: e.Step, started: e.Time}
		j.byID[e.Step.ID] = s
		j.steps = append(j.steps, s)
	}
	s.fresh = nil
	switch e.Kind {
	case StepStarted:
		// A step that was taken from the cache may be executed later, when
		// somebody needs its files.
		s.kind, s.started, s.ended = e.Kind, e.Time, time.Time{}
	case StepCached, StepDone, StepFailed:
		s.kind, s.ended, s.err = e.Kind, e.Time, e.Err
		s.flush(e.Time)
	case StepLog:
		s.write(e.Data, e.Time)
	case StepProgress:
		s.progress(e)
	}
	return s
}

// number gives a step that is shown its number.
func (j *ledger) number(s *shown) int {
	if s.number == 0 {
		j.numbered++
		s.number = j.numbered
	}
	return s.number
}

// write cuts output into lines. A carriage return begins a line anew, as on a
// terminal: of bars that grow only what stood last is a line.
func (s *shown) write(data []byte, at time.Time) {
	for len(data) > 0 {
		line, rest, whole := bytes.Cut(data, []byte{'\n'})
		data = rest
		if room := maxLine - len(s.partial); len(line) > room {
			line = line[:max(room, 0)]
		}
		s.partial = append(s.partial, line...)
		if whole {
			s.line(at)
		} else if len(s.partial) >= maxLine {
			s.line(at)
		}
	}
}

func (s *shown) flush(at time.Time) {
	if len(s.partial) > 0 {
		s.line(at)
	}
}

func (s *shown) line(at time.Time) {
	text := bytes.TrimRight(s.partial, "\r")
	if i := bytes.LastIndexByte(text, '\r'); i >= 0 {
		text = text[i+1:]
	}
	l := logLine{max(at.Sub(s.started), 0), string(text)}
	s.partial = s.partial[:0]
	s.fresh = append(s.fresh, l)
	if s.tail = append(s.tail, l); len(s.tail) > tailLines {
		s.tail = s.tail[len(s.tail)-tailLines:]
	}
}

func (s *shown) progress(e *Event) {
	for _, t := range s.items {
		if t.name == e.Item {
			t.current, t.total, t.last = e.Current, e.Total, e.Time
			return
		}
	}
	s.items = append(s.items, &transfer{name: e.Item, current: e.Current, total: e.Total, begun: e.Time, last: e.Time})
}

// item is the one that an event is about.
func (s *shown) item(name string) *transfer {
	for _, t := range s.items {
		if t.name == name {
			return t
		}
	}
	return nil
}

func (s *shown) over() bool { return !s.ended.IsZero() }

// took is how long the step has taken until now.
func (s *shown) took(now time.Time) time.Duration {
	if s.over() {
		now = s.ended
	}
	return max(now.Sub(s.started), 0)
}

// failed is the step of that name that failed last.
func (j *ledger) failed(name string) *shown {
	for i := len(j.steps) - 1; i >= 0; i-- {
		if s := j.steps[i]; s.kind == StepFailed && (s.Name == name || name == "") {
			return s
		}
	}
	return nil
}

// amount is "1.2MB / 3.4MB", or what is known of it.
func (t *transfer) amount() string {
	switch {
	case t.total > 0:
		return bytesText(t.current) + " / " + bytesText(t.total)
	case t.current > 0:
		return bytesText(t.current)
	}
	return ""
}

// bytesText is a size in decimal units, as Docker has them.
func bytesText(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%dB", n)
	}
	v, i := float64(n)/1000, 0
	for v >= 1000 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	return fmt.Sprintf("%.2f%cB", v, units[i])
}
