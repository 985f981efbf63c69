package build

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/amphora-go/amphora/internal/build/op"
)

// errNotAllowed is the kind of what Request.Allow does not list.
var errNotAllowed = fs.ErrPermission

// Error says where in a Dockerfile a build failed, and why. Every error of this
// package that has a place in a Dockerfile is one.
type Error struct {
	Op string // "build", "lint", "outline" or "targets"
	// Step is the step that failed, such as "[build 2/5] RUN make"; "" if the
	// Dockerfile itself is at fault.
	Step string
	// File, First and Last are the lines, counted from 1. File is "" and First 0
	// when the failure has no place in a Dockerfile.
	File        string
	First, Last int
	// Excerpt shows those lines with some around them: for terminals, ending in
	// a newline. The text of the error does not have it.
	Excerpt string
	Err     error
}

// Error is one line: "build Dockerfile:7: [2/3] RUN make: exit code 2".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.First > 0 {
		fmt.Fprintf(&b, " %s:%d", e.File, e.First)
	}
	if e.Step != "" {
		b.WriteString(": " + strings.ReplaceAll(e.Step, "\n", " "))
	}
	return b.String() + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// stepError is trouble with a vertex, before it has become an *Error.
type stepError struct {
	vertex *op.Vertex
	err    error
}

func (e *stepError) Error() string { return e.vertex.Name + ": " + e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

// placeError is trouble with lines of a Dockerfile, before it has become an
// *Error.
type placeError struct {
	places []op.Place
	err    error
}

func (e *placeError) Error() string { return e.err.Error() }
func (e *placeError) Unwrap() error { return e.err }

// engineError marks what is no mistake in a Dockerfile.
type engineError struct{ err error }

func (e *engineError) Error() string { return e.err.Error() }
func (e *engineError) Unwrap() error { return e.err }

// failure makes an *Error of whatever went wrong. texts gives the content of a
// file that places name.
func failure(operation string, err error, texts func(file string) []byte) error {
	if err == nil {
		return nil
	}
	var done *Error
	if errors.As(err, &done) {
		return done
	}
	e := &Error{Op: operation, Err: err}
	var places []op.Place
	var step *stepError
	if errors.As(err, &step) {
		e.Step, e.Err, places = step.vertex.Name, step.err, step.vertex.Places
	}
	var place *placeError
	if step == nil && errors.As(err, &place) {
		e.Err, places = place.err, place.places
	}
	if len(places) == 0 {
		return e
	}
	e.File, e.First, e.Last = places[0].File, places[0].First, places[0].Last
	e.Excerpt = excerpt(texts(e.File), places)
	return e
}

// around is how many lines before and after those of the failure are shown.
const around = 3

// excerpt shows lines as
//
//	6 |     FROM base
//	7 | >>> RUN make
func excerpt(text []byte, places []op.Place) string {
	if len(text) == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	first, last := max(1, places[0].First-around), min(len(lines), places[0].Last+around)
	width := len(fmt.Sprint(last))
	var b strings.Builder
	for n := first; n <= last; n++ {
		mark := "   "
		for _, p := range places {
			if p.File == places[0].File && p.First <= n && n <= p.Last {
				mark = ">>>"
			}
		}
		line := fmt.Sprintf("%*d | %s %s", width+1, n, mark, strings.TrimSuffix(lines[n-1], "\r"))
		b.WriteString(strings.TrimRight(line, " \t") + "\n")
	}
	return b.String()
}
