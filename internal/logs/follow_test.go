package logs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// numbers follows a log whose lines are increasing numbers and reports how
// many came in order.
func numbers(ctx context.Context, t *testing.T, path string, opts *ReadOptions, each func(n int)) int {
	next := 0
	for e, err := range Read(ctx, path, opts) {
		if err != nil {
			t.Errorf("after %d: %v", next, err)
			return next
		}
		if n, err := strconv.Atoi(strings.TrimSpace(string(e.Line))); err != nil || n != next {
			t.Errorf("got %q, want %d", e.Line, next)
			return next
		}
		next++
		if each != nil {
			each(next)
		}
	}
	return next
}

// TestFollowAcrossRotation: 1e5 lines through files that rotate all the time,
// none lost and none twice. The writer waits before the oldest file that the
// reader has not come to would go.
func TestFollowAcrossRotation(t *testing.T) {
	const lines = 100_000
	w, path := newWriter(t, &Options{MaxSize: 8000, MaxFile: 20})
	var ended atomic.Bool
	var read atomic.Int64
	got := make(chan int)
	go func() {
		got <- numbers(t.Context(), t, path, &ReadOptions{Tail: -1, Follow: true, Ended: ended.Load}, func(n int) { read.Store(int64(n)) })
	}()
	var chunk []byte
	for i := range lines {
		chunk = fmt.Appendf(chunk, "%d\n", i)
		if i%7 == 0 || i == lines-1 {
			if err := w.Write(Stdout, chunk, time.Now()); err != nil {
				t.Fatal(err)
			}
			chunk = chunk[:0]
		}
		for int64(i)-read.Load() > 1000 { // a file holds about 100 lines
			time.Sleep(50 * time.Microsecond)
			if t.Failed() {
				t.FailNow()
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	ended.Store(true)
	if n := <-got; n != lines {
		t.Errorf("%d lines of %d", n, lines)
	}
}

// TestFollowFromTheMiddle: readers that begin at any time, with a tail, see
// everything from there on.
func TestFollowFromTheMiddle(t *testing.T) {
	const lines = 20_000
	w, path := newWriter(t, &Options{MaxSize: 20_000, MaxFile: 1000})
	done := make(chan struct{})
	results := make(chan error, 8)
	follow := func() error {
		next := -1
		for e, err := range Read(t.Context(), path, &ReadOptions{Tail: 5, Follow: true, Done: done}) {
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(strings.TrimSpace(string(e.Line)))
			if err != nil || next >= 0 && n != next {
				return fmt.Errorf("got %q, want %d", e.Line, next)
			}
			next = n + 1
		}
		if next != lines {
			return fmt.Errorf("ended at %d", next)
		}
		return nil
	}
	for i := range lines {
		if i%(lines/cap(results)) == 0 {
			go func() { results <- follow() }()
		}
		write(t, w, Stdout, strconv.Itoa(i)+"\n")
	}
	w.Close()
	close(done)
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

func TestLostFilesAreTold(t *testing.T) {
	w, path := newWriter(t, &Options{MaxSize: 300, MaxFile: 3})
	write(t, w, Stdout, "0\n")
	var seen []string
	for e, err := range Read(t.Context(), path, &ReadOptions{Tail: -1, Follow: true, Ended: func() bool { return true }}) {
		if err != nil {
			if !errors.Is(err, ErrLost) {
				t.Fatal(err)
			}
			seen = append(seen, "lost")
			continue
		}
		if len(seen) == 0 { // the reader sleeps while everything moves on
			for i := range 30 {
				write(t, w, Stdout, strconv.Itoa(i+1)+"\n")
			}
		}
		seen = append(seen, string(e.Line))
	}
	if !slices.Contains(seen, "lost") || seen[len(seen)-1] != "30\n" {
		t.Errorf("saw %q", seen)
	}
}

// TestFollowEndsWithOutput: what was written before Ended became true is
// delivered, however late the reader is.
func TestFollowEndsWithOutput(t *testing.T) {
	for _, kind := range []string{"Ended", "Done", "Until", "removed"} {
		t.Run(kind, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "container")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "log")
			var ended atomic.Bool
			done := make(chan struct{})
			o := &ReadOptions{Tail: -1, Follow: true}
			switch kind {
			case "Ended":
				o.Ended = ended.Load
			case "Done":
				o.Done = done
			case "Until":
				o.Until = time.Now().Add(300 * time.Millisecond)
			}
			got := make(chan []string)
			go func() { got <- texts(all(t, path, o)) }()
			time.Sleep(20 * time.Millisecond) // the log begins while it is followed
			w, err := Open(path, nil)
			if err != nil {
				t.Fatal(err)
			}
			write(t, w, Stdout, "a\nb\nno newline")
			w.Close()
			switch kind {
			case "Ended":
				ended.Store(true)
			case "Done":
				close(done)
			case "removed":
				time.Sleep(50 * time.Millisecond)
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			}
			if lines := <-got; !slices.Equal(lines, []string{"a\n", "b\n", "no newline"}) {
				t.Errorf("got %q", lines)
			}
		})
	}
}

func TestFollowSeesEmptiedFile(t *testing.T) {
	w, path := newWriter(t, &Options{MaxSize: 10_000})
	done := make(chan struct{})
	lines := make(chan string)
	go func() {
		defer close(lines)
		for e, err := range Read(t.Context(), path, &ReadOptions{Tail: -1, Follow: true, Done: done}) {
			if err != nil {
				t.Error(err)
			}
			lines <- string(e.Line)
		}
	}()
	write(t, w, Stdout, strings.Repeat("x", 3000)+"\n")
	<-lines
	time.Sleep(20 * time.Millisecond) // the reader is at the end and waits
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	write(t, w, Stdout, "after\n")
	if got := <-lines; got != "after\n" {
		t.Errorf("got %.20q", got)
	}
	close(done)
	if got, more := <-lines; more {
		t.Errorf("and %.20q", got)
	}
}

// TestSplitWrites: a line is delivered once, when it is whole.
func TestSplitWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	done := make(chan struct{})
	got := make(chan int)
	go func() {
		got <- numbers(t.Context(), t, path, &ReadOptions{Tail: -1, Follow: true, Done: done}, nil)
	}()
	for i := range 20 {
		line := lineEnd(appendEscaped([]byte(lineStart), fmt.Appendf(nil, "%d\n", i)), Stdout, "", noon)
		for part := range slices.Chunk(line, 30) {
			f.Write(part)
			time.Sleep(200 * time.Microsecond)
		}
	}
	close(done)
	if n := <-got; n != 20 {
		t.Errorf("%d lines", n)
	}
}
