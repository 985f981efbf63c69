package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/watch"
)

// ErrTooOld says that events after the number asked for were already dropped
// with their segment.
var ErrTooOld = errors.New("events that old are no longer kept")

// ReadOptions choose what Read yields.
type ReadOptions struct {
	Since  uint64    // only events with a greater number; 0: from the oldest kept
	After  time.Time // only events later than that; zero: all
	Follow bool      // wait for more until the context ends
	Tail   bool      // begin at the end: only what is appended from now on
}

// Read yields events in order, without gaps: if Since names a point before
// the oldest event kept it yields ErrTooOld. When ctx ends it yields
// (Event{}, ctx.Err()).
func (j *Journal) Read(ctx context.Context, opts *ReadOptions) iter.Seq2[Event, error] {
	if opts == nil {
		opts = &ReadOptions{}
	}
	return func(yield func(Event, error) bool) {
		for ev, err := range j.entries(ctx, opts) {
			if !yield(ev.Event, err) {
				return
			}
		}
	}
}

func (j *Journal) entries(ctx context.Context, opts *ReadOptions) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		r := reader{j: j, opts: opts, seen: opts.Since}
		defer r.close()
		if err := r.run(ctx, yield); err != nil {
			yield(entry{}, err)
		}
	}
}

type reader struct {
	j       *Journal
	opts    *ReadOptions
	seen    uint64 // number of the last event read
	segment string
	f       *os.File
	buf     *bufio.Reader
	off     int64 // where the next line begins
	last    bool  // another segment exists: this one does not change any more
	again   int64 // where a line was damaged and is read once more, or -1
	w       *watch.Watcher
}

func (r *reader) close() {
	if r.f != nil {
		r.f.Close()
	}
	if r.w != nil {
		r.w.Close()
	}
}

func (r *reader) run(ctx context.Context, yield func(entry, error) bool) error {
	if r.opts.Follow {
		if err := os.MkdirAll(r.j.dir, 0o711); err != nil {
			return fault.Opaque(err)
		}
		w, err := watch.Dir(r.j.dir) // before the first look, so that nothing falls between
		if err != nil {
			return fault.Opaque(err)
		}
		r.w = w
	}
	if r.opts.Tail {
		last, err := r.j.Last(ctx)
		if err != nil {
			return err
		}
		r.seen = last
	}
	if err := r.first(); err != nil {
		return err
	}
	for {
		if more, err := r.drain(ctx, yield); err != nil || !more {
			return err
		}
		if !r.opts.Follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.w.C:
		case <-time.After(5 * time.Second): // inotify queues can overflow: look anyway
		}
	}
}

// first opens the segment that holds the event after r.seen.
func (r *reader) first() error {
	segs, err := r.j.segments()
	if err != nil || len(segs) == 0 {
		return fault.Opaque(err)
	}
	pick := segs[0]
	for _, s := range segs {
		if firstOf(s) <= r.seen+1 {
			pick = s
		}
	}
	if r.seen > 0 && firstOf(pick) > r.seen+1 {
		// Only a jump at a boot may lie between; a dropped segment may not.
		return fmt.Errorf("journal: since %d: %w; the oldest is %d", r.seen, ErrTooOld, firstOf(pick))
	}
	return r.open(pick)
}

func firstOf(segment string) uint64 {
	n, _ := strconv.ParseUint(segment[:20], 10, 64)
	return n
}

func (r *reader) open(segment string) error {
	f, err := os.Open(filepath.Join(r.j.dir, segment))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("journal: %w: the reader fell behind by more than the log keeps", ErrTooOld)
	}
	if err != nil {
		return fault.Opaque(err)
	}
	if r.f != nil {
		r.f.Close()
	}
	r.f, r.segment, r.off, r.last, r.again = f, segment, 0, false, -1
	r.buf = bufio.NewReaderSize(f, 32<<10)
	return nil
}

// back goes to the beginning of the line that was just read: it was torn, and
// the next writer cuts a torn line off and writes its own there.
func (r *reader) back() error {
	if _, err := r.f.Seek(r.off, io.SeekStart); err != nil {
		return fault.Opaque(err)
	}
	r.buf.Reset(r.f)
	return nil
}

// drain yields all whole lines there are. It returns false when the consumer
// wants no more.
func (r *reader) drain(ctx context.Context, yield func(entry, error) bool) (bool, error) {
	for {
		if r.f == nil {
			if err := r.first(); err != nil || r.f == nil {
				return err == nil, err
			}
		}
		line, err := r.buf.ReadBytes('\n')
		if err == io.EOF {
			if len(line) > 0 {
				if err := r.back(); err != nil {
					return false, err
				}
			}
			more, err := r.further()
			if err != nil || !more {
				return err == nil, err
			}
			continue
		}
		if err != nil {
			return false, fault.Opaque(err)
		}
		ev, ok := decodeEvent(line[:len(line)-1])
		if !ok && r.again != r.off {
			r.again = r.off
			if err := r.back(); err != nil {
				return false, err
			}
			continue
		}
		r.off += int64(len(line))
		if !ok || ev.Seq <= r.seen {
			continue // a header, a damaged line, or before the point asked for
		}
		r.seen = ev.Seq
		if !r.opts.After.IsZero() && !ev.Time.After(r.opts.After) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if !yield(ev, nil) {
			return false, nil
		}
	}
}

// further goes on after the end of a segment was seen. It returns false when
// there is no more. A segment gets no more lines once another exists, but it
// may have got some before the list was read: it is read to its end once more.
func (r *reader) further() (bool, error) {
	segs, err := r.j.segments()
	if err != nil {
		return false, fault.Opaque(err)
	}
	for _, s := range segs {
		if s <= r.segment {
			continue
		}
		if !r.last {
			r.last = true
			return true, nil
		}
		return true, r.open(s)
	}
	return false, nil
}

// Last is the number of the newest event, 0 when there is none.
func (j *Journal) Last(ctx context.Context) (uint64, error) {
	segs, err := j.segments()
	if err != nil || len(segs) == 0 {
		return 0, fault.Opaque(err)
	}
	last := segs[len(segs)-1]
	seq := firstOf(last) - 1
	r := reader{j: j, opts: &ReadOptions{}}
	defer r.close()
	if err := r.open(last); err != nil {
		return 0, err
	}
	_, err = r.drain(ctx, func(ev entry, _ error) bool { seq = ev.Seq; return true })
	return seq, err
}

// find returns the event with that number, or a zero one.
func (j *Journal) find(ctx context.Context, seq uint64) (entry, error) {
	for ev, err := range j.entries(ctx, &ReadOptions{Since: seq - 1}) {
		if errors.Is(err, ErrTooOld) {
			return entry{}, nil
		}
		if err != nil {
			return entry{}, err
		}
		if ev.Seq == seq {
			return ev, nil
		}
		if ev.Seq > seq {
			break
		}
	}
	return entry{}, nil
}

// LastOf is the newest event of one object among those kept, a zero Event
// when there is none. It reads the log: for recovery, not for every call.
func (j *Journal) LastOf(ctx context.Context, typ, id string) (Event, error) {
	var last Event
	for ev, err := range j.Read(ctx, nil) {
		if err != nil {
			return Event{}, err
		}
		if ev.Type == typ && ev.ID == id && ev.Action != "abort" {
			last = ev
		}
	}
	return last, nil
}
