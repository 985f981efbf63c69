package logs

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/watch"
)

// ErrLost is yielded by a reader that follows a log when files were rotated
// away before it came to read them. It is not the end: iteration may go on.
var ErrLost = errors.New("log entries were rotated away before they were read")

// ReadOptions choose what Read yields. Mind Tail: its zero value means that
// nothing already written is yielded. Nil options mean everything.
type ReadOptions struct {
	// Follow goes on with what is written until Ended or Done say that there
	// will be no more, or the context ends.
	Follow bool
	// Since and Until bound the time of entries, both inclusive. With Follow,
	// the first later entry, or that time itself, is the end.
	Since, Until time.Time
	// Tail is how many lines at the end are yielded, of those that the other
	// options choose; -1: all. A line of several entries counts once.
	Tail int
	// Stdout and Stderr choose streams; neither means both.
	Stdout, Stderr bool
	// Ended reports that the container's output has ended: everything is
	// written. What was written before it became true is still yielded. It is
	// asked after each change in the log's directory and every 100 ms.
	Ended func() bool
	// Done may be closed for the same purpose, and is noticed at once.
	Done <-chan struct{}
	// Attrs fills Entry.Attrs. The map is shared between entries.
	Attrs bool
}

// Read yields the entries of a log in the order in which they were written,
// from the oldest file to the current one. A log that was not begun yet is
// empty. Lines that are damaged are skipped. An error is the last thing
// yielded (but see [ErrLost]): ctx.Err() when the context ends, which a
// reader that does not follow also heeds; fs.ErrNotExist when the log's
// directory is absent; or trouble in reading.
//
// Without Follow it yields what is there when iteration begins. Files are
// open, and the directory is watched, during an iteration only.
func Read(ctx context.Context, path string, opts *ReadOptions) iter.Seq2[Entry, error] {
	if opts == nil {
		opts = &ReadOptions{Tail: -1}
	}
	return func(yield func(Entry, error) bool) {
		r := &reader{path: path, opts: opts, yield: yield, done: opts.Done}
		r.dec.attrs = opts.Attrs
		defer r.close()
		if err := r.run(ctx); err != nil && !r.stopped {
			yield(Entry{}, err)
		}
	}
}

type reader struct {
	path    string
	opts    *ReadOptions
	yield   func(Entry, error) bool
	stopped bool // yield returned false, or Until was reached
	dec     decoder
	done    <-chan struct{} // nil once closed
	isDone  bool
	watcher *watch.Watcher // nil: poll

	queue []*logFile // still to be read, the oldest first
	cur   cursor     // in queue[0]
}

// run returns nil when all was yielded that there will be, and also when
// the consumer stopped.
func (r *reader) run(ctx context.Context) error {
	if r.opts.Follow {
		// Before the first look, so that no change is missed. Too few inotify
		// instances only make it slower.
		r.watcher, _ = watch.Dir(filepath.Dir(r.path))
	}
	if err := r.begin(); err != nil {
		return err
	}
	for {
		ended := !r.opts.Follow || r.ended()
		if err := r.drain(ctx); err != nil || r.stopped {
			return err
		}
		if ended {
			r.leftover()
			return nil
		}
		if err := r.wait(ctx); err != nil {
			return err
		}
	}
}

// begin opens all files and goes to where reading starts.
func (r *reader) begin() error {
	files, err := chain(r.path)
	if err != nil {
		return err
	}
	r.queue = oldestFirst(files)
	if len(r.queue) == 0 {
		return nil
	}
	last := r.queue[len(r.queue)-1]
	if !r.opts.Follow {
		last.limit = last.info.Size()
	}
	r.skipOlder()
	if r.opts.Tail >= 0 {
		return r.goToTail()
	}
	return nil
}

// skipOlder leaves out files that were last written before Since. The kernel
// stamps files with a clock that may lag by a tick, so a second is spared.
func (r *reader) skipOlder() {
	for len(r.queue) > 1 && !r.opts.Since.IsZero() && r.queue[0].info.ModTime().Before(r.opts.Since.Add(-time.Second)) {
		r.pop()
	}
}

// drain yields what is there, across rotations.
func (r *reader) drain(ctx context.Context) error {
	for n := 0; ; n++ {
		if n%64 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if len(r.queue) > 0 {
			line, err := r.cur.next(r.queue[0])
			if err != nil {
				return fault.Opaque(err)
			}
			if line != nil {
				if r.deliver(line); r.stopped {
					return nil
				}
				continue
			}
		}
		// At the end of a file.
		if len(r.queue) > 1 {
			if r.leftover(); r.stopped {
				return nil
			}
			if r.pop(); r.queue[0].lost && !r.yield(Entry{}, ErrLost) {
				r.stopped = true
				return nil
			}
			continue
		}
		if !r.opts.Follow {
			return nil
		}
		if more, err := r.newer(); err != nil || !more {
			return err
		}
		// The file in hand was complete when it lost its place: once more to
		// its end, then on to the next.
	}
}

// leftover yields an entry at the end of a file that lacks only its newline.
func (r *reader) leftover() {
	if rest := r.cur.rest(); len(rest) > 0 && !r.stopped {
		r.deliver(rest)
	}
}

func (r *reader) deliver(line []byte) {
	e, ok := r.dec.decode(line)
	if !ok || !r.wants(e) {
		return
	}
	if r.opts.Follow && r.late(e.Time) || !r.yield(e, nil) {
		r.stopped = true
	}
}

func (r *reader) late(t time.Time) bool { return !r.opts.Until.IsZero() && t.After(r.opts.Until) }

// wants decides about an entry; with Follow a late one is wanted since it is
// the end.
func (r *reader) wants(e Entry) bool {
	if r.opts.Stdout != r.opts.Stderr && r.opts.Stdout != (e.Stream == Stdout) {
		return false
	}
	if !r.opts.Since.IsZero() && e.Time.Before(r.opts.Since) {
		return false
	}
	return r.opts.Follow || !r.late(e.Time)
}

func (r *reader) ended() bool {
	if r.done != nil {
		select {
		case <-r.done:
			r.done, r.isDone = nil, true
		default:
		}
	}
	if r.isDone || r.opts.Ended != nil && r.opts.Ended() {
		return true
	}
	if r.late(time.Now()) {
		return true
	}
	// A container that was removed writes no more.
	_, err := os.Stat(filepath.Dir(r.path))
	return errors.Is(err, fs.ErrNotExist)
}

// wait returns when it is worth looking again.
func (r *reader) wait(ctx context.Context) error {
	var changed <-chan struct{}
	interval := 20 * time.Millisecond
	if r.watcher != nil {
		changed, interval = r.watcher.C, time.Second
		if r.opts.Ended != nil {
			interval = 100 * time.Millisecond
		}
	}
	if !r.opts.Until.IsZero() {
		interval = max(min(interval, time.Until(r.opts.Until)), time.Millisecond)
	}
	timer := time.NewTimer(interval)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.done: // seen by ended
	case <-changed:
	case <-timer.C:
	}
	return nil
}

func (r *reader) pop() {
	r.queue[0].f.Close()
	r.queue = r.queue[1:]
	r.cur.reset(0)
}

func (r *reader) close() {
	for _, f := range r.queue {
		f.f.Close()
	}
	if r.watcher != nil {
		r.watcher.Close()
	}
}
