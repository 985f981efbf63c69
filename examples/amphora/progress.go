package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/amphora-go/amphora/image"
)

// progress shows what becomes of an image's layers: a line with a bar for each
// on a terminal, a line for each step elsewhere.
type progress struct {
	out    *os.File
	bars   bool
	layers []image.Progress
	drawn  int // lines on the screen
	last   time.Time

	finished, existed string // words of a push
}

func newProgress(out *os.File) *progress {
	return &progress{out: out, bars: term.IsTerminal(int(out.Fd()))}
}

var phases = map[image.Phase]string{
	image.Waiting: "Waiting", image.Downloading: "Downloading", image.Verifying: "Verifying Checksum",
	image.Extracting: "Extracting", image.Done: "Pull complete", image.Exists: "Already exists",
	image.Compressing: "Preparing", image.Uploading: "Pushing",
}

// word is Docker's for what is being done.
func (p *progress) word(l image.Progress) string {
	switch {
	case l.Phase == image.Done && p.finished != "":
		return p.finished
	case l.Phase == image.Exists && p.existed != "":
		return p.existed
	case l.Phase == image.Mounted:
		return "Mounted from " + l.From
	}
	return phases[l.Phase]
}

// update is the callback of Pull and Load, whose calls do not overlap.
func (p *progress) update(l image.Progress) {
	for len(p.layers) < max(l.Layers, l.Index+1) {
		p.layers = append(p.layers, image.Progress{})
	}
	same := p.layers[l.Index].Phase == l.Phase
	p.layers[l.Index] = l
	switch {
	case !p.bars && !same:
		fmt.Fprintf(p.out, "%s: %s\n", short(l.Layer), p.word(l))
	case p.bars && (!same || time.Since(p.last) > 50*time.Millisecond):
		p.draw()
	}
}

func (p *progress) done() {
	if p.bars {
		p.draw()
	}
}

// draw writes all lines over those that are on the screen.
func (p *progress) draw() {
	p.last = time.Now()
	width, _, err := term.GetSize(int(p.out.Fd()))
	if err != nil || width < 20 {
		width = 80
	}
	var b strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", p.drawn) // up
	}
	p.drawn = 0
	for _, l := range p.layers {
		if l.Layer == "" {
			continue // not heard of yet
		}
		b.WriteString("\r\x1b[K" + cut(p.line(l), width-1) + "\n") // over a cleared line
		p.drawn++
	}
	p.out.WriteString(b.String())
}

// line is "f18232174bc9: Downloading [===>      ]  1.2MB/3.6MB".
func (p *progress) line(l image.Progress) string {
	s := fmt.Sprintf("%s: %s", short(l.Layer), p.word(l))
	if l.Total <= 0 || l.Phase != image.Downloading && l.Phase != image.Extracting && l.Phase != image.Uploading {
		return s
	}
	const width = 50
	n := min(int(width*l.Bytes/l.Total), width)
	bar := strings.Repeat("=", n)
	if n < width {
		bar += ">"
	}
	return fmt.Sprintf("%-25s [%-*s] %7s/%s", s, width, bar, size(l.Bytes), size(l.Total))
}
