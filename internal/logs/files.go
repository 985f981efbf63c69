package logs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
)

// logFile is one open file of a log.
type logFile struct {
	f     *os.File
	info  os.FileInfo // as it was when opened
	limit int64       // read no line that begins here or later; 0: no limit
	lost  bool        // entries before this file may have been lost
}

// chain opens the files of a log, the current one first. A writer may rotate
// at the same time: since files only ever move from one number to the next,
// going upwards may meet a file twice, which is noticed, but misses none.
// Numbers may be missing after a rotation that was cut short.
func chain(path string) ([]*logFile, error) {
	greatest, err := greatestNumber(path)
	if err != nil {
		return nil, err
	}
	var files []*logFile
	for n, found := 0, true; n <= greatest+2 || found; n++ {
		var f *logFile
		f, found, err = openFile(numbered(path, n))
		if err != nil {
			closeAll(files)
			return nil, err
		}
		switch {
		case !found:
		case slices.ContainsFunc(files, f.same):
			f.f.Close()
		default:
			files = append(files, f)
		}
	}
	return files, nil
}

func greatestNumber(path string) (int, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		return 0, fault.Opaque(err)
	}
	greatest := 0
	for _, e := range entries {
		if suffix, ok := strings.CutPrefix(e.Name(), filepath.Base(path)); ok {
			greatest = max(greatest, number(suffix))
		}
	}
	return greatest, nil
}

func openFile(path string) (f *logFile, found bool, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fault.Opaque(err)
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, false, fault.Opaque(err)
	}
	return &logFile{f: file, info: info}, true, nil
}

func (f *logFile) same(other *logFile) bool { return os.SameFile(f.info, other.info) }

func closeAll(files []*logFile) {
	for _, f := range files {
		f.f.Close()
	}
}

func oldestFirst(files []*logFile) []*logFile {
	slices.Reverse(files)
	return files
}

// newer queues the files that came after the one in hand, and reports whether
// there are any. If it is still the current one there are none.
func (r *reader) newer() (bool, error) {
	var cur *logFile
	if len(r.queue) > 0 {
		cur = r.queue[0]
		info, err := os.Stat(r.path)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil // in the middle of a rotation, or removed
		}
		if err != nil {
			return false, fault.Opaque(err)
		}
		if os.SameFile(info, cur.info) {
			return false, nil
		}
	}
	files, err := chain(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // removed with its directory, which ended notices
	}
	if err != nil {
		return false, err
	}
	known := len(files)
	if cur != nil {
		if i := slices.IndexFunc(files, cur.same); i >= 0 {
			known = i
		} else if known > 1 {
			// If one file is kept, its predecessor is always gone: no sign of loss.
			files[known-1].lost = true
		}
	}
	closeAll(files[known:])
	r.queue = append(r.queue, oldestFirst(files[:known])...)
	return known > 0, nil
}

// cursor reads a file line by line.
type cursor struct {
	buf      []byte // what was read; its unread part is buf[at:]
	at       int
	off      int64 // in the file, of the end of buf
	overlong bool  // in the middle of a line too long to be an entry
}

const readSize = 128 << 10

func (c *cursor) reset(off int64) { c.buf, c.at, c.off, c.overlong = c.buf[:0], 0, off, false }

// next returns the next complete line without its newline, valid until the
// next call; nil at the end of the file.
func (c *cursor) next(f *logFile) ([]byte, error) {
	for searched := 0; ; {
		unread := c.buf[c.at:]
		if f.limit > 0 && c.off-int64(len(unread)) >= f.limit {
			c.buf, c.at = c.buf[:0], 0
			return nil, nil
		}
		if n := bytes.IndexByte(unread[searched:], '\n'); n >= 0 {
			line := unread[: searched+n : searched+n]
			c.at += len(line) + 1
			if c.overlong {
				c.overlong, searched = false, 0
				continue
			}
			return line, nil
		}
		searched = len(unread)
		if len(unread) >= maxLine || c.overlong {
			c.overlong = true
			c.buf, c.at, searched = c.buf[:0], 0, 0
		}
		more, err := c.fill(f)
		if err != nil || !more {
			return nil, err
		}
		if len(c.buf)-c.at < searched {
			searched = 0 // the file was emptied and begins anew
		}
	}
}

// fill reads on, keeping what is unread.
func (c *cursor) fill(f *logFile) (bool, error) {
	if c.at > 0 {
		c.buf = c.buf[:copy(c.buf, c.buf[c.at:])]
		c.at = 0
	}
	c.buf = slices.Grow(c.buf, readSize)
	n, err := f.f.ReadAt(c.buf[len(c.buf):cap(c.buf)], c.off)
	c.buf = c.buf[:len(c.buf)+n]
	c.off += int64(n)
	if n > 0 {
		return true, nil
	}
	if err != nil && err != io.EOF {
		return false, err
	}
	if info, err := f.f.Stat(); err == nil && info.Size() < c.off {
		c.reset(0)
		return info.Size() > 0, nil
	}
	return false, nil
}

// rest is what follows the last newline.
func (c *cursor) rest() []byte {
	if c.overlong {
		return nil
	}
	return c.buf[c.at:]
}
