package logs

import (
	"bytes"
	"io"
	"os"

	"github.com/amphora-go/amphora/internal/fault"
)

// goToTail drops files and moves the cursor so that the last Tail lines that
// the reader wants follow.
func (r *reader) goToTail() error {
	t := tail{r: r, left: r.opts.Tail}
	for i := len(r.queue) - 1; i >= 0; i-- {
		f := r.queue[i]
		end := f.limit
		if end == 0 {
			end = f.info.Size()
		}
		off, err := t.search(f.f, end)
		if err != nil {
			return fault.Opaque(err)
		}
		if off < 0 {
			continue
		}
		for range i {
			r.pop()
		}
		r.cur.reset(off)
		return nil
	}
	return nil // fewer lines than asked for: from the start
}

// tail counts lines from the end. A line's last entry has a newline, or is
// the last of its stream.
type tail struct {
	r     *reader
	left  int
	found [2]bool // an entry of Stdout, Stderr was seen
}

// search returns the offset where the tail begins, -1 if it begins in an
// older file.
func (t *tail) search(f *os.File, end int64) (int64, error) {
	start := int64(-1)
	err := backward(f, end, func(off int64, line []byte) bool {
		if t.left == 0 && !t.found[0] && !t.found[1] { // nothing was asked for
			start = off + int64(len(line)) + 1
			return false
		}
		e, ok := t.r.dec.decode(line)
		if !ok || !t.r.wants(e) || t.r.late(e.Time) {
			return true
		}
		i := 0
		if e.Stream == Stderr {
			i = 1
		}
		if n := len(e.Line); !t.found[i] || n > 0 && e.Line[n-1] == '\n' {
			if t.left == 0 {
				start = off + int64(len(line)) + 1
				return false
			}
			t.left--
		}
		t.found[i] = true
		return true
	})
	return start, err
}

// backward visits the complete lines of the first end bytes of a file, last
// to first, without their newlines, until visit returns false.
func backward(f io.ReaderAt, end int64, visit func(off int64, line []byte) bool) error {
	var buf []byte
	var data []byte         // of the file from pos on
	pos, have := end, false // have: data ends with the newline of the line looked for
	for {
		if !have {
			data = data[:bytes.LastIndexByte(data, '\n')+1]
			have = len(data) > 0
		}
		if have {
			n := bytes.LastIndexByte(data[:len(data)-1], '\n')
			if n >= 0 || pos == 0 {
				if !visit(pos+int64(n+1), data[n+1:len(data)-1]) || n < 0 {
					return nil
				}
				data = data[:n+1]
				continue
			}
		}
		if pos == 0 {
			return nil
		}
		if len(data) > maxLine {
			data, have = data[:0], false
		}
		n := int(min(readSize, pos))
		if need := n + len(data); cap(buf) < need {
			grown := make([]byte, 2*need)
			copy(grown[n:], data)
			buf = grown
		} else {
			buf = buf[:cap(buf)]
			copy(buf[n:], data)
		}
		pos -= int64(n)
		if got, err := f.ReadAt(buf[:n], pos); got < n {
			if err == io.EOF {
				return nil // emptied meanwhile
			}
			return err
		}
		data = buf[:n+len(data)]
	}
}
