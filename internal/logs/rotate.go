package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/step"
)

// writeOut writes what is encoded. If only a part could be written, the file
// is cut back to whole entries, so that readers see no torn one; what is lost
// is counted.
func (w *Writer) writeOut() error {
	if len(w.buf) == 0 {
		return nil
	}
	if err := w.endTorn(); err != nil {
		w.drop(w.buf)
		return w.failed(err)
	}
	n, err := w.f.Write(w.buf)
	w.size += int64(n)
	if err == nil {
		w.buf = w.buf[:0]
		return nil
	}
	whole := bytes.LastIndexByte(w.buf[:n], '\n') + 1
	if whole < n {
		if w.f.Truncate(w.size-int64(n-whole)) == nil {
			w.size -= int64(n - whole)
		} else {
			w.torn = true
		}
	}
	w.drop(w.buf[whole:])
	return w.failed(err)
}

// endTorn ends a line that a crash or a full disk left unfinished, so that
// readers find the next entry.
func (w *Writer) endTorn() error {
	if !w.torn {
		return nil
	}
	if _, err := w.f.Write([]byte{'\n'}); err != nil {
		return err
	}
	w.torn = false
	w.size++
	return nil
}

func (w *Writer) drop(lost []byte) {
	w.dropped.Entries += int64(bytes.Count(lost, []byte{'\n'}))
	w.dropped.Bytes += int64(len(lost))
	w.buf = w.buf[:0]
}

func (w *Writer) failed(err error) error {
	return fault.Opaque(fmt.Errorf("container log lost output: %w", err))
}

// rotate begins a new current file. A reader finds its place by inode, and
// looks from the current file towards older ones, so every state in between
// is sound; for an instant there may be no current file. After a failure the
// old one goes on, beyond its limit.
func (w *Writer) rotate() error {
	if info, err := w.f.Stat(); err == nil && info.Size() < w.size {
		w.size = info.Size() // somebody emptied it
		return nil
	}
	if err := w.replace(); err != nil {
		w.limit = w.size + retryRotation
		return fault.Opaque(fmt.Errorf("container log cannot begin a new file: %w", err))
	}
	return nil
}

// retryRotation is how much more is written before a failed rotation is tried
// again.
const retryRotation = 256 << 10

// replace makes the new file before it touches the old ones.
func (w *Writer) replace() error {
	fresh := w.path + newSuffix
	f, err := os.OpenFile(fresh, os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	step.At("log.rotate.created")
	if err = w.shift(); err == nil {
		step.At("log.rotate.shifted")
		err = os.Rename(fresh, w.path)
	}
	if err != nil {
		f.Close()
		os.Remove(fresh)
		if _, serr := os.Lstat(w.path); errors.Is(serr, fs.ErrNotExist) {
			os.Rename(numbered(w.path, 1), w.path) // the old file goes on under its name
		}
		return err
	}
	w.f.Close()
	w.f, w.size, w.limit, w.torn = f, 0, w.maxSize, false
	return nil
}

const newSuffix = ".new"

// shift renames each file to the next number, the last one away.
func (w *Writer) shift() error {
	for n := w.maxFile - 2; n >= 0; n-- {
		step.At("log.rotate.shift")
		if err := os.Rename(numbered(w.path, n), numbered(w.path, n+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeSurplus removes older files that a former, greater MaxFile left, and
// the new file of a rotation that was cut short.
func (w *Writer) removeSurplus() error {
	entries, err := os.ReadDir(filepath.Dir(w.path))
	if err != nil {
		return err
	}
	for _, e := range entries {
		suffix, ok := strings.CutPrefix(e.Name(), filepath.Base(w.path))
		if ok && (suffix == newSuffix || number(suffix) >= w.maxFile) {
			if err := os.Remove(filepath.Join(filepath.Dir(w.path), e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}
