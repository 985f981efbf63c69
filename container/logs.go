package container

import (
	"context"
	"errors"
	"iter"
	"os"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/logs"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/recovery"
)

// ErrLogLost is yielded when files were rotated away before this reader came
// to them. Iteration goes on with what is left.
var ErrLogLost = logs.ErrLost

// LogOptions choose what Logs yields. The zero value is all that was written.
type LogOptions struct {
	Follow         bool      // go on until the container's output ends
	Since, Until   time.Time // both inclusive; zero: no bound
	Tail           int       // this many lines at the end; 0: all; negative: none of what is there
	Stdout, Stderr bool      // neither means both
}

// LogEntry is one line of the container's output. A line longer than 16 KiB
// comes in several entries, all but the last without a newline.
type LogEntry struct {
	Time   time.Time
	Stream string // stdout or stderr; always stdout with a terminal
	Line   []byte // with its newline, if it had one
}

// Logs yields the container's output in the order in which it was written.
// With Follow it ends exactly when the output does: when the container ends
// and is not started again by its policy. An error is the last thing yielded,
// except ErrLogLost.
func (c *Container) Logs(ctx context.Context, opts *LogOptions) iter.Seq2[LogEntry, error] {
	if opts == nil {
		opts = &LogOptions{}
	}
	return func(yield func(LogEntry, error) bool) {
		if err := c.hasLog(); err != nil {
			yield(LogEntry{}, c.fail("logs", err))
			return
		}
		tail := opts.Tail
		switch {
		case tail == 0:
			tail = -1
		case tail < 0:
			tail = 0
		}
		read := &logs.ReadOptions{Follow: opts.Follow, Since: opts.Since, Until: opts.Until, Tail: tail,
			Stdout: opts.Stdout, Stderr: opts.Stderr, Ended: func() bool { return c.silent(ctx) }}
		for e, err := range logs.Read(ctx, c.m.root.Path(c.id, "log"), read) {
			if errors.Is(err, logs.ErrLost) { // not the end
				if !yield(LogEntry{}, c.fail("logs", err)) {
					return
				}
				continue
			}
			if err != nil {
				yield(LogEntry{}, c.fail("logs", err))
				return
			}
			if !yield(LogEntry{Time: e.Time, Stream: string(e.Stream), Line: e.Line}, nil) {
				return
			}
		}
	}
}

func (c *Container) hasLog() error {
	if _, err := c.m.root.Load(c.id); err != nil {
		return err
	}
	cfg, err := c.m.root.LoadConfig(c.id)
	if err != nil {
		return err
	}
	if cfg.Log.Driver == "none" {
		return fault.Unsupported("the container was created with the log driver none: its output is kept nowhere")
	}
	return nil
}

// silent reports that no more output can come. The supervisor writes the last
// of it before it records the end.
func (c *Container) silent(ctx context.Context) bool {
	s, err := recovery.Judge(ctx, c.m.root, c.id)
	if err != nil {
		return errors.Is(err, os.ErrNotExist) // trouble in reading is no end
	}
	return s.Run == nil && !s.Starting && s.Status != record.Restarting
}
