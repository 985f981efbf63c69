package logs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
)

// Options are for a writer; the zero value is one file without a limit.
type Options struct {
	MaxSize int64             // bytes of a file before the next one is begun; 0: no limit
	MaxFile int               // files kept, the current one included; 0 means 1
	Attrs   map[string]string // written with each entry, 64 KiB as JSON at most
}

// Writer appends to a log. It is safe for concurrent use. One process at a
// time may write a log; its lock is that of the container.
type Writer struct {
	path    string
	maxSize int64
	maxFile int
	attrs   string // `,"attrs":{...}` or empty

	mu      sync.Mutex // guards all below
	f       *os.File   // nil once closed
	size    int64      // of f
	limit   int64      // of f, when to try rotation; 0: never
	torn    bool       // f ends in mid-line
	buf     []byte     // encoded, to be written with the next write(2)
	end     []byte     // what ends each entry of the chunk
	pending [2][]byte  // of Stdout and Stderr: the line not ended yet
	dropped Dropped
}

// Dropped counts what could not be written, as when the disk was full.
type Dropped struct {
	Entries, Bytes int64 // Bytes as encoded
}

// Open opens the log for appending and creates it if missing (mode 0640); its
// directory must exist. A line that a crash tore is ended, and files beyond
// MaxFile are removed.
func Open(path string, opts *Options) (*Writer, error) {
	if opts == nil {
		opts = &Options{}
	}
	if opts.MaxSize < 0 || opts.MaxFile < 0 {
		return nil, fault.Invalid("log options: size %d and number %d of files must not be negative", opts.MaxSize, opts.MaxFile)
	}
	w := &Writer{path: path, maxSize: opts.MaxSize, maxFile: max(opts.MaxFile, 1)}
	if len(opts.Attrs) > 0 {
		attrs, err := json.Marshal(opts.Attrs)
		if err != nil || len(attrs) > maxAttrs {
			return nil, fault.Invalid("log options: attrs take %d bytes of %d", len(attrs), maxAttrs)
		}
		w.attrs = attrsStart + string(attrs)
	}
	if err := w.removeSurplus(); err != nil {
		return nil, fault.Opaque(err)
	}
	if err := w.open(); err != nil {
		return nil, fault.Opaque(err)
	}
	return w, nil
}

// open opens the current file.
func (w *Writer) open() error {
	f, err := os.OpenFile(w.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	w.f, w.size, w.limit, w.torn = f, info.Size(), w.maxSize, false
	if w.size > 0 {
		var last [1]byte
		if _, err := f.ReadAt(last[:], w.size-1); err != nil || last[0] != '\n' {
			w.torn = true
			w.endTorn() // if the disk is full, the next Write tries again
		}
	}
	return nil
}

// Write logs p, read at t from a stream. Lines go out with one write(2) for
// each call, unless a file is full in between. The start of an unfinished line
// stays in memory until a later Write, Flush or Close.
//
// An error, such as a full disk, means that entries of this call were
// dropped, see [Writer.Dropped]; the next Write tries again. Write does not
// keep p.
func (w *Writer) Write(stream Stream, p []byte, t time.Time) error {
	i := 0
	switch stream {
	case Stdout:
	case Stderr:
		i = 1
	default:
		return fault.Invalid("log: unknown stream %q", stream)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return os.ErrClosed
	}
	w.end = lineEnd(w.end[:0], stream, w.attrs, t)
	var failed error
	for len(p) > 0 {
		n := bytes.IndexByte(p, '\n') + 1
		if n == 0 {
			n = len(p)
		}
		if err := w.add(i, p[:n]); err != nil {
			failed = err
		}
		p = p[n:]
	}
	if err := w.writeOut(); err != nil {
		failed = err
	}
	return failed
}

// add takes a line, or the rest of the chunk if it has no newline.
func (w *Writer) add(stream int, line []byte) error {
	var failed error
	pending := w.pending[stream]
	if len(pending) > 0 {
		// A rune may lie across the border of chunks, so they are joined first.
		n := min(len(line), maxPiece+1-len(pending))
		pending = append(pending, line[:n]...)
		line = line[n:]
		w.pending[stream] = pending
		if len(pending) <= maxPiece && pending[len(pending)-1] != '\n' {
			return nil // still unfinished, and all of line is in it
		}
		n = cut(pending, maxPiece)
		failed = w.emit(pending[:n])
		pending = pending[:copy(pending, pending[n:])]
		w.pending[stream] = pending
		if len(pending) > 0 {
			if err := w.add(stream, line); err != nil {
				failed = err
			}
			return failed
		}
	}
	for len(line) > maxPiece {
		n := cut(line, maxPiece)
		if err := w.emit(line[:n]); err != nil {
			failed = err
		}
		line = line[n:]
	}
	if len(line) == 0 {
		return failed
	}
	if line[len(line)-1] != '\n' {
		w.pending[stream] = append(w.pending[stream], line...)
		return failed
	}
	if err := w.emit(line); err != nil {
		failed = err
	}
	return failed
}

// emit encodes an entry. It writes what was encoded before if the file would
// grow beyond its limit, and begins a new one.
func (w *Writer) emit(text []byte) error {
	start := len(w.buf)
	w.buf = append(w.buf, lineStart...)
	w.buf = appendEscaped(w.buf, text)
	w.buf = append(w.buf, w.end...)
	if w.limit == 0 || w.size+int64(len(w.buf)) <= w.limit || w.size+int64(start) == 0 {
		return nil
	}
	entry := len(w.buf) - start
	all := w.buf
	w.buf = all[:start]
	err := w.writeOut()
	if rerr := w.rotate(); rerr != nil {
		err = rerr // entries are not lost for that
	}
	w.buf = all[:copy(all, all[start:start+entry])]
	return err
}

// Flush logs unfinished lines as they are, without a newline, and gives back
// memory. It is meant for when nothing was written for a while: prompts
// become visible, and a supervisor killed later takes nothing with it.
func (w *Writer) Flush(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return os.ErrClosed
	}
	err := w.flush(t)
	w.buf, w.pending = nil, [2][]byte{}
	return err
}

func (w *Writer) flush(t time.Time) error {
	var failed error
	for i, stream := range []Stream{Stdout, Stderr} {
		if len(w.pending[i]) == 0 {
			continue
		}
		w.end = lineEnd(w.end[:0], stream, w.attrs, t)
		if err := w.emit(w.pending[i]); err != nil {
			failed = err
		}
		w.pending[i] = w.pending[i][:0]
	}
	if err := w.writeOut(); err != nil {
		failed = err
	}
	return failed
}

// Dropped returns what could not be written since Open.
func (w *Writer) Dropped() Dropped {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dropped
}

// Close logs unfinished lines and closes the file. It is idempotent.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return nil
	}
	err := w.flush(time.Now())
	if cerr := w.f.Close(); err == nil && cerr != nil {
		err = fault.Opaque(cerr)
	}
	w.f, w.buf, w.pending = nil, nil, [2][]byte{}
	return err
}

// numbered is the path of an older file; 0 is the current one.
func numbered(path string, n int) string {
	if n == 0 {
		return path
	}
	return fmt.Sprintf("%s.%d", path, n)
}

// number is the inverse of numbered, for the part of a name after the current
// file's; -1 for other files.
func number(suffix string) int {
	digits, ok := strings.CutPrefix(suffix, ".")
	if n, err := strconv.Atoi(digits); ok && err == nil && n > 0 && strconv.Itoa(n) == digits {
		return n
	}
	return -1
}
