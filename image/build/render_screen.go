package build

import (
	"fmt"
	"strings"
	"time"
)

// screen draws all steps anew over what it drew before:
//
//	[+] Building 1.2s (5/12)
//	 => CACHED [build 1/5] FROM docker.io/library/debian        0.0s
//	 => [build 2/5] RUN make                                    1.1s
//	 => => # cc -o tool tool.c
type screen struct {
	r    *Renderer
	size func() (width, height int)

	drawn int // lines on the screen that are drawn over
	last  time.Time
	dirty bool
}

func newScreen(r *Renderer, size func() (int, int)) *screen { return &screen{r: r, size: size} }

// logShown is how many lines of output a running step shows.
const logShown = 6

// Colours of Docker's display.
const (
	colourDone  = "\x1b[34m"
	colourError = "\x1b[31m"
	colourEnd   = "\x1b[0m"
)

func (c *screen) event(e *Event, _ *shown) {
	c.dirty = true
	if e.Kind != StepLog && e.Kind != StepProgress || time.Since(c.last) >= frame {
		c.draw(false)
	}
}

func (c *screen) end() { c.draw(true) }

// draw writes a frame. The last one has all steps, the others as many as there
// is room for: what is over and done is left out first.
func (c *screen) draw(last bool) {
	c.last = time.Now()
	width, height := c.size()
	now := c.r.log.now()
	lines := c.lines(now, width-1, last)
	if room := height - 2; !last && len(lines) > room {
		lines = c.fewer(now, width-1, room)
	}
	var b strings.Builder
	b.WriteString("\x1b[?25l") // no cursor while it jumps
	if c.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", c.drawn)
	}
	b.WriteString("\r")
	b.WriteString(c.head(now, last) + "\x1b[K\n")
	for _, l := range lines {
		b.WriteString(l + "\x1b[K\n")
	}
	b.WriteString("\x1b[J\x1b[?25h")
	c.drawn = len(lines) + 1
	c.r.print(b.String())
}

func (c *screen) head(now time.Time, last bool) string {
	done, all := 0, 0
	for _, s := range c.r.log.steps {
		if s.Internal {
			continue
		}
		all++
		if s.over() {
			done++
		}
	}
	end := ""
	if last && done == all {
		end = " FINISHED"
	}
	return fmt.Sprintf("[+] Building %.1fs (%d/%d)%s", now.Sub(c.r.log.begun).Seconds(), done, all, end)
}

// lines are all lines below the head.
func (c *screen) lines(now time.Time, width int, last bool) (all []string) {
	for _, s := range c.r.log.steps {
		all = append(all, c.step(s, now, width, last)...)
	}
	return all
}

// fewer leaves out steps that are over, the earliest first, then lines.
func (c *screen) fewer(now time.Time, width, room int) []string {
	var groups [][]string
	var over []bool
	n := 0
	for _, s := range c.r.log.steps {
		g := c.step(s, now, width, false)
		groups, over = append(groups, g), append(over, s.over())
		n += len(g)
	}
	for i := range groups {
		if n <= room {
			break
		}
		if over[i] {
			n -= len(groups[i])
			groups[i] = nil
		}
	}
	var lines []string
	for _, g := range groups {
		lines = append(lines, g...)
	}
	return lines[:min(max(room, 0), len(lines))]
}

func (c *screen) step(s *shown, now time.Time, width int, last bool) []string {
	if s.Internal && s.kind != StepFailed {
		return nil
	}
	name := clean(s.Name, false)
	colour := ""
	switch s.kind {
	case StepCached:
		name, colour = "CACHED "+name, colourDone
	case StepFailed:
		name, colour = "ERROR "+name, colourError
	case StepDone:
		colour = colourDone
	}
	lines := []string{row(" => "+name, s.took(now), width, colour)}
	for _, t := range s.items {
		until := t.last
		if t.current != t.total && !s.over() {
			until = now
		}
		lines = append(lines, row(" => => "+strings.TrimSpace(clean(t.name, false)+" "+t.amount()), until.Sub(t.begun), width, colour))
	}
	if s.over() || last {
		return lines
	}
	for _, l := range s.tail[max(0, len(s.tail)-logShown):] {
		lines = append(lines, strings.TrimRight(fit(" => => # "+clean(l.text, false), width), " "))
	}
	return lines
}

// row is a text on the left and a time on the right.
func row(text string, d time.Duration, width int, colour string) string {
	clock := fmt.Sprintf("%.1fs", max(d, 0).Seconds())
	line := fit(text, max(width-len(clock)-1, 0)) + " " + clock
	if colour == "" {
		return line
	}
	return colour + line + colourEnd
}
