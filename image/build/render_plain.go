package build

import (
	"fmt"
	"strings"
	"time"
)

// plain prints lines as docker build --progress=plain does:
//
//	#5 [build 2/5] RUN make
//	#5 0.123 cc -o tool tool.c
//	#5 DONE 0.4s
type plain struct {
	r    *Renderer
	last *shown // whose lines were printed last, until it is over
}

// perItem is how often a transfer is worth a line.
const perItem = time.Second

func (p *plain) event(e *Event, s *shown) {
	switch {
	case s == nil:
		return // warnings come at the end
	case s.Internal && s.kind != StepFailed && len(s.fresh) == 0:
		return
	}
	var lines []string
	for _, l := range s.fresh {
		lines = append(lines, l.String())
	}
	switch e.Kind {
	case StepStarted:
		p.header(s)
	case StepProgress:
		if l := p.transfer(e, s); l != "" {
			lines = append(lines, l)
		}
	case StepCached:
		lines = append(lines, "CACHED")
	case StepDone:
		lines = append(lines, fmt.Sprintf("DONE %.1fs", s.took(e.Time).Seconds()))
	case StepFailed:
		lines = append(lines, "ERROR: "+clean(reason(e.Err, s.Name), false))
	}
	if len(lines) == 0 {
		return
	}
	p.header(s)
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "#%d %s\n", p.r.log.number(s), l)
	}
	if s.over() {
		b.WriteString("\n")
		p.last = nil
	}
	p.r.print(b.String())
}

// header says which step the next lines are of.
func (p *plain) header(s *shown) {
	if p.last == s {
		return
	}
	gap := ""
	if p.last != nil {
		gap = "\n"
	}
	p.last = s
	p.r.print(fmt.Sprintf("%s#%d %s\n", gap, p.r.log.number(s), clean(s.Name, false)))
}

// transfer is the line about an item, if it is time for one.
func (p *plain) transfer(e *Event, s *shown) string {
	t := s.item(e.Item)
	done := t.total == t.current
	if !done && e.Time.Sub(t.told) < perItem {
		return ""
	}
	t.told = e.Time
	l := clean(t.name, false)
	if a := t.amount(); a != "" {
		l += " " + a
	}
	if done {
		return fmt.Sprintf("%s %.1fs done", l, e.Time.Sub(t.begun).Seconds())
	}
	return l
}

func (p *plain) end() {
	if p.last != nil {
		p.r.print("\n")
	}
}

// reason is the text of a step's error in one line, without the step's name.
func reason(err error, step string) string {
	if err == nil {
		return "failed"
	}
	text := strings.TrimPrefix(err.Error(), step+": ")
	return strings.ReplaceAll(text, "\n", "; ")
}
