package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
)

// Condition is what WaitFor waits for: Listening, HTTP, Logged, ExecOK, File,
// Ended, or several of them by All and Any.
type Condition interface {
	// String says what is waited for, for messages: "listening on 80/tcp".
	String() string
	// wait returns nil once the condition holds. While it does not, why says
	// what was seen last.
	wait(ctx context.Context, c *Container, why *reason) error
}

// reason is what kept a condition from holding when it was last looked at.
type reason struct{ last error }

// lastLook is what a condition gets after the container's end, to read what it
// left.
const lastLook = 250 * time.Millisecond

// lastLines is how much of the log an error of WaitFor shows.
const lastLines = 10

// WaitFor waits until the running container meets all conditions. It fails
// when ctx ends, and at once when the container ends (unless Ended is what is
// waited for) or cannot meet them any more. The error then is a *NotReadyError:
// it says which condition did not hold, what was seen of it last, how the
// container ended, and shows the last lines of its log.
func (c *Container) WaitFor(ctx context.Context, conditions ...Condition) error {
	return c.failed("wait for", c.waitFor(ctx, conditions))
}

func (c *Container) waitFor(ctx context.Context, conditions []Condition) error {
	all := All(conditions...)
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	why := new(reason)
	met := make(chan error, 1)
	go func() { met <- all.wait(inner, c, why) }()
	var exited chan *Exit
	if !waitsForEnd(all) {
		exited = make(chan *Exit, 1)
		go func() {
			if exit, err := c.Wait(inner, NotRunning); err == nil {
				exited <- exit
			}
		}()
	}
	var err error
	var exit *Exit
	select {
	case err = <-met:
	case exit = <-exited:
		// It may have been met before the end, as the log will show.
		defer time.AfterFunc(lastLook, cancel).Stop()
		if err = <-met; err != nil {
			err = ErrNotRunning
		}
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		err = context.Cause(ctx)
	}
	return &NotReadyError{Waiting: all.String(), Exit: exit, Log: c.lastLog(), Err: err, last: why.last}
}

// NotReadyError is why WaitFor gave up.
type NotReadyError struct {
	Waiting string   // the conditions
	Exit    *Exit    // how the container ended; nil if it did not
	Log     []string // the last lines of its output, without newlines
	Err     error    // the end of the context, ErrNotRunning, or what made a condition impossible

	last error
}

func (e *NotReadyError) Unwrap() []error {
	if e.last != nil {
		return []error{e.Err, e.last}
	}
	return []error{e.Err}
}

func (e *NotReadyError) Error() string {
	var b strings.Builder
	switch {
	case e.Exit != nil:
		fmt.Fprintf(&b, "the container exited with code %d before it was %s", e.Exit.Code, e.Waiting)
		if e.Exit.OOMKilled {
			b.WriteString(" (it ran out of memory)")
		}
	default:
		fmt.Fprintf(&b, "not %s: %v", e.Waiting, e.Err)
	}
	if e.last != nil {
		fmt.Fprintf(&b, "; last: %v", e.last)
	}
	if len(e.Log) > 0 {
		b.WriteString("; it wrote last:\n\t" + strings.Join(e.Log, "\n\t"))
	}
	return b.String()
}

// lastLog is what the container wrote last; nothing if that cannot be read.
func (c *Container) lastLog() []string {
	ctx, done := context.WithTimeout(context.Background(), time.Second)
	defer done()
	var lines []string
	for e, err := range c.Logs(ctx, &LogOptions{Tail: lastLines}) {
		if err != nil {
			break
		}
		lines = append(lines, strings.TrimRight(string(e.Line), "\r\n"))
	}
	return lines
}

// Polls begin often, for what takes milliseconds, and become rare.
const (
	pollFirst = 2 * time.Millisecond
	pollMost  = 100 * time.Millisecond
)

// poll looks until ok says that it is so. An error is why it is not so yet.
func poll(ctx context.Context, why *reason, ok func() error) error {
	for pause := pollFirst; ; pause = min(pause*3/2, pollMost) {
		err := ok()
		if err == nil {
			return nil
		}
		if never := new(impossible); errors.As(err, &never) {
			return never.error
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		why.last = err
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// impossible ends a poll.
type impossible struct{ error }

// waitsForEnd says whether the end of the container is what is waited for.
func waitsForEnd(c Condition) bool {
	switch c := c.(type) {
	case exited:
		return true
	case all:
		for _, one := range c {
			if waitsForEnd(one) {
				return true
			}
		}
	case anyOf:
		for _, one := range c {
			if waitsForEnd(one) {
				return true
			}
		}
	}
	return false
}

// All holds once each of the conditions has held.
func All(conditions ...Condition) Condition { return all(conditions) }

type all []Condition

func (a all) String() string { return phrase(a, " and ") }

func (a all) wait(ctx context.Context, c *Container, why *reason) error {
	for _, one := range a { // what held once counts: they need not hold at once
		if err := one.wait(ctx, c, why); err != nil {
			return err
		}
	}
	why.last = nil
	return nil
}

// Any holds once one of the conditions holds. It fails when none can any more.
func Any(conditions ...Condition) Condition { return anyOf(conditions) }

type anyOf []Condition

func (a anyOf) String() string { return phrase(a, " or ") }

func (a anyOf) wait(ctx context.Context, c *Container, why *reason) error {
	if len(a) == 0 {
		return fault.Invalid("Any needs a condition")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		err error
		why reason
	}
	results := make(chan result, len(a))
	for _, one := range a {
		go func() {
			var r result
			r.err = one.wait(ctx, c, &r.why)
			results <- r
		}()
	}
	var errs, last error
	for range a {
		r := <-results
		if r.err == nil {
			why.last = nil
			return nil
		}
		errs, last = errors.Join(errs, r.err), errors.Join(last, r.why.last)
	}
	why.last = last
	return errs
}

func phrase(conditions []Condition, by string) string {
	var names []string
	for _, c := range conditions {
		names = append(names, c.String())
	}
	return strings.Join(names, by)
}

// Ended holds when the container has ended with one of the codes; any other
// code is an error. Without codes every end will do.
func Ended(codes ...int) Condition { return exited(codes) }

type exited []int

func (e exited) String() string {
	if len(e) == 0 {
		return "exited"
	}
	return fmt.Sprintf("exited with code %v", []int(e))
}

func (e exited) wait(ctx context.Context, c *Container, _ *reason) error {
	exit, err := c.Wait(ctx, NotRunning)
	if err != nil {
		return err
	}
	if exit.Finished.IsZero() {
		return fault.Kind(ErrNotRunning, "it was never started")
	}
	for _, code := range e {
		if code == exit.Code {
			return nil
		}
	}
	if len(e) == 0 {
		return nil
	}
	return fmt.Errorf("it exited with code %d", exit.Code)
}

// File holds once there is a file, directory or anything else at the path in
// the container.
func File(name string) Condition { return file(name) }

type file string

func (f file) String() string { return "showing the file " + string(f) }

func (f file) wait(ctx context.Context, c *Container, why *reason) error {
	return poll(ctx, why, func() error {
		root, err := c.FS(ctx)
		if err != nil {
			return err
		}
		defer root.Close()
		_, err = fs.Stat(root, strings.TrimPrefix(path.Clean("/"+string(f)), "/"))
		return err
	})
}

// ExecOK holds once the command, run in the container, ends with code 0.
func ExecOK(arg ...string) Condition { return execOK(arg) }

type execOK []string

func (x execOK) String() string { return "answering " + strings.Join(x, " ") }

func (x execOK) wait(ctx context.Context, c *Container, why *reason) error {
	if len(x) == 0 {
		return fault.Invalid("ExecOK needs a command")
	}
	return poll(ctx, why, func() error {
		out, err := c.Command(ctx, x...).CombinedOutput()
		if err != nil && len(out) > 0 {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
		}
		return err
	})
}
