package build

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/amphora-go/amphora/internal/fault"
)

// Ways to show progress, by the names of docker build --progress.
const (
	ProgressAuto  = "auto"  // tty on a terminal, else plain
	ProgressPlain = "plain" // a line for everything that happens
	ProgressTTY   = "tty"   // steps that are drawn anew as they go on
	ProgressQuiet = "quiet" // nothing
)

// Renderer shows the events of a build to people. What commands and Dockerfiles
// say cannot take over the terminal: control characters are left out, and so
// are escape sequences, but for colours in plain lines.
//
// Its method Event is a Request.Progress.
type Renderer struct {
	mu   sync.Mutex // guards what follows
	view view
	log  *ledger
	w    io.Writer
	stop func() // ends what draws by itself; nil: nothing does
	err  error  // of the first write that failed
	over bool
}

// view is one way to show what the journal holds.
type view interface {
	event(e *Event, s *shown)
	end()
}

// NewRenderer returns a renderer that writes to w in one of the ways above; ""
// is ProgressAuto. It must be closed.
func NewRenderer(mode string, w io.Writer) (*Renderer, error) {
	size := terminalSize(w)
	switch mode {
	case "", ProgressAuto:
		if mode = ProgressPlain; size != nil {
			mode = ProgressTTY
		}
	case ProgressPlain, ProgressTTY, ProgressQuiet:
	default:
		return nil, fault.Invalid("progress %q is unknown: want auto, plain, tty or quiet", mode)
	}
	r := &Renderer{log: newLedger(), w: w}
	switch mode {
	case ProgressPlain:
		r.view = &plain{r: r}
	case ProgressTTY:
		if size == nil {
			size = func() (int, int) { return 80, 25 }
		}
		r.view = newScreen(r, size)
		r.stop = r.tick()
	}
	return r, nil
}

// terminalSize asks w for its size whenever it is called. It is nil if w is no
// terminal.
func terminalSize(w io.Writer) func() (width, height int) {
	f, ok := w.(interface{ Fd() uintptr })
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return func() (int, int) {
		width, height, err := term.GetSize(int(f.Fd()))
		if err != nil || width < 20 || height < 5 {
			return 80, 25
		}
		return width, height
	}
}

// frame is how often a screen is drawn when nothing happens: clocks run on it.
const frame = 100 * time.Millisecond

// tick draws the screen until the returned function is called.
func (r *Renderer) tick() (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(frame)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				r.mu.Lock()
				r.view.(*screen).draw(false)
				r.mu.Unlock()
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

// Event shows what happened.
func (r *Renderer) Event(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	s := r.log.add(&e)
	if r.view != nil {
		r.view.event(&e, s)
	}
}

// Close says how the build ended: warnings, and if err is an *Error the last
// output of the step that failed, and where that stands. The text of the error
// is for the caller to print. It returns the first error of writing.
func (r *Renderer) Close(err error) error {
	r.mu.Lock()
	over := r.over
	r.over = true
	r.mu.Unlock()
	if over {
		return r.err
	}
	if r.stop != nil {
		r.stop()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.view != nil {
		r.view.end()
		r.warnings()
	}
	r.failure(err)
	return r.err
}

func (r *Renderer) print(s string) {
	if _, err := io.WriteString(r.w, s); err != nil && r.err == nil {
		r.err = err
	}
}

func (r *Renderer) warnings() {
	all := r.log.warnings
	if len(all) == 0 {
		return
	}
	noun := "warnings"
	if len(all) == 1 {
		noun = "warning"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n %d %s found:\n", len(all), noun)
	for _, w := range all {
		b.WriteString(" - ")
		if w.Rule != "" {
			b.WriteString(clean(w.Rule, false) + ": ")
		}
		b.WriteString(clean(w.Text, false))
		if len(w.Places) > 0 {
			fmt.Fprintf(&b, " (line %d)", w.Places[0].First)
		}
		b.WriteString("\n")
	}
	r.print(b.String())
}

// failure shows the step that failed as docker build does.
func (r *Renderer) failure(err error) {
	var e *Error
	if !errors.As(err, &e) {
		return
	}
	var b strings.Builder
	if s := r.log.failed(e.Step); s != nil && len(s.tail) > 0 {
		fmt.Fprintf(&b, "------\n > %s:\n", clean(s.Name, false))
		for _, l := range s.tail {
			b.WriteString(l.String() + "\n")
		}
		b.WriteString("------\n")
	}
	if e.Excerpt != "" {
		const rule = "--------------------\n"
		fmt.Fprintf(&b, "%s:%d\n%s", clean(e.File, false), e.First, rule)
		for l := range strings.Lines(e.Excerpt) {
			b.WriteString(clean(strings.TrimSuffix(l, "\n"), false) + "\n")
		}
		b.WriteString(rule)
	}
	r.print(b.String())
}
