// Package journal is the event log of a Root: appended by any process under a
// flock, numbered without gaps, bounded on disk.
//
// The log is the order in which objects changed. A change is an event and the
// object's record that carries the event's number; [Journal.Update] writes
// both so that a kill between any two steps is mended by [Journal.Settle]:
//
//	record.json.next (new content, number n)   killed here: n was never logged, the file is dropped
//	append event n                              killed here: n is logged for this object, the file is renamed
//	rename record.json.next -> record.json
//
// Numbers never go back: at the first append of another boot they jump, since
// the unsynced tail of the log may have been lost with the power.
package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/proc"
	"github.com/amphora-go/amphora/internal/step"
)

const (
	segmentSize = 4 << 20 // bytes after which a new segment begins
	segmentKeep = 16      // segments kept: 64 MiB, some 300 000 events
	bootJump    = 1 << 20 // more than can be appended between two writebacks (30 s) of a kernel
	tailFirst   = 2 << 10 // bytes first read to find the end of a segment: most events are shorter
)

// Journal appends to and reads one log. It holds no descriptor between calls
// and is safe for concurrent use.
type Journal struct {
	dir string

	mu   sync.Mutex // guards tail; taken before the flock, so that goroutines queue here and not by polling
	tail tail
}

// tail remembers where this process's last append ended; it is valid while
// the segment still has that size.
type tail struct {
	segment string
	size    int64
	seq     uint64
}

// Open returns the journal in dir. It does no I/O.
func Open(dir string) *Journal { return &Journal{dir: dir} }

// Dir is where the segments lie.
func (j *Journal) Dir() string { return j.dir }

// Update logs ev and replaces the file at path by what encode returns for the
// event's number. With sync all of it survives power loss when Update
// returns. Nobody else updates that file meanwhile.
func (j *Journal) Update(ctx context.Context, ev Event, path string, sync bool, encode func(seq uint64) ([]byte, error)) (uint64, error) {
	next := path + ".next"
	prepare := func(seq uint64) error {
		data, err := encode(seq)
		if err != nil {
			return err
		}
		return writeNext(next, data, sync)
	}
	seq, err := j.commit(ctx, entry{ev, filepath.Base(path)}, sync, prepare, func(uint64) error { return os.Rename(next, path) })
	if err != nil {
		os.Remove(next)
		return 0, err
	}
	if sync {
		if err := atomicfile.SyncDir(filepath.Dir(path)); err != nil {
			return seq, fault.Opaque(err)
		}
	}
	return seq, nil
}

// Settle finishes or drops what a killed Update of path left behind; id is the
// object's. An Update holds the log's lock from the preparation of its file to
// its end, so that what is found under that lock has lost its writer: Settle
// may be called at any time, also while others update the same object.
func (j *Journal) Settle(ctx context.Context, path, id string, seqOf func([]byte) (uint64, error)) error {
	next := path + ".next"
	if _, err := os.Lstat(next); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	l, err := j.lock(ctx)
	if err != nil {
		return err
	}
	defer l.Release()
	data, err := os.ReadFile(next)
	if errors.Is(err, os.ErrNotExist) {
		return nil // its writer lived
	}
	if err != nil {
		return fault.Opaque(err)
	}
	if seq, err := seqOf(data); err == nil && seq > 0 {
		logged, err := j.find(ctx, seq)
		if err != nil {
			return err
		}
		if logged.ID == id && (logged.File == filepath.Base(path) || logged.File == "") {
			return fault.Opaque(os.Rename(next, path))
		}
	}
	return fault.Opaque(os.Remove(next))
}

// lock is the log's lock between processes.
func (j *Journal) lock(ctx context.Context) (*flock.Lock, error) {
	if err := os.MkdirAll(j.dir, 0o711); err != nil {
		return nil, fault.Opaque(err)
	}
	l, err := flock.Acquire(ctx, filepath.Join(j.dir, "lock"), flock.Exclusive)
	if err != nil && ctx.Err() == nil {
		err = fault.Opaque(err)
	}
	return l, err
}

// Commit logs ev and then runs write, under the journal's lock: for changes
// that are not the replacement of one file, such as a removal. When write
// fails, an event with action "abort" and the attribute "of" follows.
func (j *Journal) Commit(ctx context.Context, ev Event, write func(seq uint64) error) (uint64, error) {
	if write == nil {
		write = func(uint64) error { return nil }
	}
	return j.commit(ctx, entry{Event: ev}, false, func(uint64) error { return nil }, write)
}

func (j *Journal) commit(ctx context.Context, ev entry, sync bool, prepare, publish func(uint64) error) (uint64, error) {
	if ev.Time.IsZero() {
		ev.Time = time.Now().UTC()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	l, err := j.lock(ctx)
	if err != nil {
		return 0, err
	}
	defer l.Release()
	f, err := j.openTail()
	if err != nil {
		return 0, fault.Opaque(err)
	}
	defer f.Close()

	ev.Seq = j.tail.seq + 1
	step.At("journal.locked")
	if err := prepare(ev.Seq); err != nil {
		return 0, err
	}
	step.At("journal.prepared")
	if err := j.append(f, ev); err != nil {
		return 0, err
	}
	step.At("journal.appended")
	if err := publish(ev.Seq); err != nil {
		abort := entry{Event: Event{Seq: ev.Seq + 1, Time: ev.Time, Type: ev.Type, Action: "abort", ID: ev.ID,
			Attributes: map[string]string{"of": strconv.FormatUint(ev.Seq, 10)}}}
		return 0, errors.Join(fault.Opaque(err), j.append(f, abort))
	}
	step.At("journal.published")
	if sync {
		return ev.Seq, fault.Opaque(f.Sync())
	}
	return ev.Seq, nil
}

func (j *Journal) append(f *os.File, ev entry) error {
	line, err := encodeLine(ev)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(line, j.tail.size); err != nil {
		// What was written of the line has no newline or no valid CRC: no
		// reader took it. Cut it off while we hold the lock.
		return fault.Opaque(errors.Join(err, f.Truncate(j.tail.size)))
	}
	j.tail.size += int64(len(line))
	j.tail.seq = ev.Seq
	return nil
}

// openTail opens the segment to append to, with j.tail set to its end.
func (j *Journal) openTail() (*os.File, error) {
	segs, err := j.segments()
	if err != nil {
		return nil, err
	}
	if len(segs) == 0 {
		return j.begin(1)
	}
	last := segs[len(segs)-1]
	f, err := os.OpenFile(filepath.Join(j.dir, last), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		f.Close()
		return nil, err
	}
	if j.tail.segment != last || j.tail.size != size {
		if err := j.findTail(f, last, size); err != nil {
			f.Close()
			return nil, err
		}
	}
	boot, _ := proc.BootID()
	h, err := readHeader(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("journal segment %s: %w", f.Name(), err)
	}
	jump := uint64(0)
	if h.Boot != boot {
		jump = bootJump
	}
	if jump == 0 && j.tail.size < segmentSize {
		return f, nil
	}
	f.Close()
	for _, old := range segs[:max(0, len(segs)+1-segmentKeep)] {
		if err := os.Remove(filepath.Join(j.dir, old)); err != nil {
			return nil, err
		}
	}
	return j.begin(j.tail.seq + 1 + jump)
}

// begin makes the segment whose first event has number first.
func (j *Journal) begin(first uint64) (*os.File, error) {
	boot, err := proc.BootID()
	if err != nil {
		return nil, err
	}
	line, err := encodeLine(header{Version: formatVersion, First: first, Boot: boot})
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%020d.log", first)
	path := filepath.Join(j.dir, name)
	if err := atomicfile.Write(path, line, 0o600, true); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	j.tail = tail{segment: name, size: int64(len(line)), seq: first - 1}
	return f, nil
}

// findTail finds the last whole line of a segment and cuts off what a killed
// writer left after it.
func (j *Journal) findTail(f *os.File, name string, size int64) error {
	for length := int64(tailFirst); ; length *= 8 {
		found, err := j.tailIn(f, name, size, max(0, size-length))
		if err != nil || found {
			return err
		}
		if length >= size {
			return fmt.Errorf("journal segment %s: no valid line in it; move it away to go on with a new log", f.Name())
		}
	}
}

// tailIn looks for the last whole line after from.
func (j *Journal) tailIn(f *os.File, name string, size, from int64) (bool, error) {
	buf := make([]byte, size-from)
	if _, err := f.ReadAt(buf, from); err != nil && err != io.EOF {
		return false, err
	}
	end := bytes.LastIndexByte(buf, '\n') + 1
	for end > 0 {
		start := bytes.LastIndexByte(buf[:end-1], '\n') + 1
		if start == 0 && from > 0 {
			return false, nil // its beginning lies before from
		}
		if body, ok := checkLine(buf[start : end-1]); ok {
			seq, err := lineSeq(body)
			if err != nil {
				return false, err
			}
			j.tail = tail{segment: name, size: from + int64(end), seq: seq}
			if j.tail.size < size {
				return true, f.Truncate(j.tail.size)
			}
			return true, nil
		}
		end = start
	}
	return false, nil
}

// lineSeq is the number that stands after a line: an event's own, or, for a
// header, that before its first event.
func lineSeq(body []byte) (uint64, error) {
	var both struct {
		header
		Seq uint64 `json:"seq"`
	}
	if err := json.Unmarshal(body, &both); err != nil {
		return 0, err
	}
	if both.Version != 0 {
		return both.First - 1, nil
	}
	return both.Seq, nil
}

func readHeader(f *os.File) (header, error) {
	buf := make([]byte, 512)
	n, err := f.ReadAt(buf, 0)
	if err != nil && err != io.EOF {
		return header{}, err
	}
	line, _, found := bytes.Cut(buf[:n], []byte{'\n'})
	body, ok := checkLine(line)
	var h header
	if !found || !ok || json.Unmarshal(body, &h) != nil {
		return header{}, errors.New("damaged header")
	}
	if h.Version > formatVersion {
		return header{}, fmt.Errorf("written in format %d, this program reads up to %d: update it", h.Version, formatVersion)
	}
	return h, nil
}

// segments lists the segment files, oldest first.
func (j *Journal) segments() ([]string, error) {
	entries, err := os.ReadDir(j.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".log") && len(e.Name()) == 24 {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

func writeNext(path string, data []byte, sync bool) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fault.Opaque(err)
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return fault.Opaque(err)
	}
	if sync {
		if err := f.Sync(); err != nil {
			return fault.Opaque(err)
		}
	}
	return fault.Opaque(f.Close())
}
