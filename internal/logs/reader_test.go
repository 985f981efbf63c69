package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestAbsentLog(t *testing.T) {
	dir := t.TempDir()
	if got := all(t, filepath.Join(dir, "log"), nil); len(got) != 0 {
		t.Errorf("a log not begun: %v", got)
	}
	for _, err := range Read(t.Context(), filepath.Join(dir, "absent", "log"), nil) {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("absent directory: %v", err)
		}
	}
}

func TestDamageIsSkipped(t *testing.T) {
	line := func(s string) string {
		return string(lineEnd(appendEscaped([]byte(lineStart), []byte(s)), Stdout, "", noon))
	}
	path := filepath.Join(t.TempDir(), "log")
	text := line("a\n") +
		"garbage\n\n{}\nnull\n[1]\n" + `{"log":"x","stream":"stdout"}` + "\n" + `{"log":"x","stream":"stdfoo","time":"2026-11-23T12:00:00Z"}` + "\n" +
		line("b\n") +
		`{"log":"torn by a cra` + line("c\n") + // an old writer did not end the line
		strings.Repeat("\x00", 5000) + line("d\n") + // power failure
		`{"log":"\x","stream":"stdout","time":"2026-11-23T12:00:00Z"}` + "\n" +
		`{"log":"` + "\x01" + `","stream":"stdout","time":"2026-11-23T12:00:00Z"}` + "\n" +
		strings.Repeat("\x00", 3*maxLine) + "\n" +
		line("e\x00\n") +
		`{ "time":"2026-11-23T12:00:00+01:00", "stream":"stderr", "log":"foreign \ud834\udd1e \/ \ud834\n" }` + "\r\n" +
		`{"log":"newline lacks","stream":"stdout","time":"2026-11-23T12:00:00Z"}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []string{"a\n", "b\n", "c\n", "d\n", "e\x00\n", "foreign 𝄞 / \ufffd\n", "newline lacks"}
	if got := texts(all(t, path, nil)); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	// The tail stops in the same places; an entry without its newline yet is
	// not counted.
	for n := range 6 {
		if got := texts(all(t, path, &ReadOptions{Tail: n})); !slices.Equal(got, want[6-n:]) {
			t.Errorf("tail %d: %q", n, got)
		}
	}
}

func TestTail(t *testing.T) {
	w, path := newWriter(t, &Options{MaxSize: 700, MaxFile: 50})
	var want []Entry
	for i := range 100 {
		s := []Stream{Stdout, Stdout, Stderr}[i%3]
		at := noon.Add(time.Duration(i) * time.Second)
		if err := w.Write(s, fmt.Appendf(nil, "%d\n", i), at); err != nil {
			t.Fatal(err)
		}
		want = append(want, Entry{Time: at, Stream: s, Line: fmt.Appendf(nil, "%d\n", i)})
	}
	choose := func(n int, f func(Entry) bool) []string {
		var out []string
		for _, e := range want {
			if f(e) {
				out = append(out, string(e.Line))
			}
		}
		if n >= 0 {
			out = out[max(0, len(out)-n):]
		}
		return out
	}
	since, until := noon.Add(20*time.Second), noon.Add(60*time.Second)
	for n := -1; n < 110; n++ {
		for _, c := range []struct {
			o ReadOptions
			f func(Entry) bool
		}{
			{ReadOptions{}, func(Entry) bool { return true }},
			{ReadOptions{Stdout: true, Stderr: true}, func(Entry) bool { return true }},
			{ReadOptions{Stderr: true}, func(e Entry) bool { return e.Stream == Stderr }},
			{ReadOptions{Stdout: true, Since: since, Until: until}, func(e Entry) bool {
				return e.Stream == Stdout && !e.Time.Before(since) && !e.Time.After(until)
			}},
		} {
			c.o.Tail = n
			if got := texts(all(t, path, &c.o)); !slices.Equal(got, choose(n, c.f)) {
				t.Fatalf("%+v: got %q, want %q", c.o, got, choose(n, c.f))
			}
		}
	}
}

// TestTailCountsLines: a line of several entries counts once.
func TestTailCountsLines(t *testing.T) {
	w, path := newWriter(t, &Options{MaxSize: 40_000, MaxFile: 50})
	long := strings.Repeat("x", 3*maxPiece) + "\n"
	write(t, w, Stdout, "first\n"+long+"third\n"+long+"un")
	w.Flush(noon)
	write(t, w, Stdout, "finished")
	w.Close()
	for n, want := range []string{"", "unfinished", long + "unfinished", "third\n" + long + "unfinished",
		long + "third\n" + long + "unfinished", "first\n" + long + "third\n" + long + "unfinished"} {
		if got := strings.Join(texts(all(t, path, &ReadOptions{Tail: n})), ""); got != want {
			t.Errorf("tail %d: %d bytes, want %d", n, len(got), len(want))
		}
	}
}

// TestTailAcrossBlocks: lines of all sizes around that of the blocks in which
// the tail is sought.
func TestTailAcrossBlocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var file bytes.Buffer
	var want []string
	for i := range 300 {
		s := strings.Repeat("z", i*i%9000) + strconv.Itoa(i) + "\n"
		want = append(want, s)
		file.Write(lineEnd(appendEscaped([]byte(lineStart), []byte(s)), Stdout, "", noon))
	}
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < 300; n += 13 {
		if got := texts(all(t, path, &ReadOptions{Tail: n})); !slices.Equal(got, want[300-n:]) {
			t.Errorf("tail %d: %d entries", n, len(got))
		}
	}
}

func TestContextEnds(t *testing.T) {
	w, path := newWriter(t, nil)
	write(t, w, Stdout, "a\n")
	var errs []error
	for _, err := range Read(canceled(t), path, nil) {
		errs = append(errs, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for e, err := range Read(ctx, path, &ReadOptions{Tail: -1, Follow: true}) {
		if e.Line != nil {
			time.AfterFunc(10*time.Millisecond, cancel)
			continue
		}
		errs = append(errs, err)
	}
	if len(errs) != 2 || !errors.Is(errs[0], context.Canceled) || !errors.Is(errs[1], context.Canceled) {
		t.Errorf("ended with %v", errs)
	}
}

// TestNothingStaysOpen: an iteration that is broken off leaves neither
// descriptors nor goroutines.
func TestNothingStaysOpen(t *testing.T) {
	w, path := newWriter(t, &Options{MaxSize: 500, MaxFile: 10})
	for i := range 100 {
		write(t, w, Stdout, strconv.Itoa(i)+"\n")
	}
	descriptors := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("needs /proc to count descriptors")
		}
		return len(list)
	}
	use := func() {
		for range Read(t.Context(), path, &ReadOptions{Tail: -1, Follow: true}) {
			break
		}
		for range Read(canceled(t), path, &ReadOptions{Tail: 3, Follow: true}) {
			continue
		}
		func() {
			defer func() { recover() }()
			for range Read(t.Context(), path, nil) {
				panic("consumer")
			}
		}()
	}
	use()
	fds, goroutines := descriptors(), runtime.NumGoroutine()
	for range 20 {
		use()
	}
	if n := descriptors(); n > fds {
		t.Errorf("%d descriptors, %d before", n, fds)
	}
	n := runtime.NumGoroutine()
	for i := 0; i < 500 && n > goroutines; i++ { // one that said it is done may still be counted
		time.Sleep(10 * time.Millisecond)
		n = runtime.NumGoroutine()
	}
	if n > goroutines {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
}

// TestEntriesMayBeKept: the receiver owns the lines.
func TestEntriesMayBeKept(t *testing.T) {
	w, path := newWriter(t, nil)
	for i := range 5000 {
		write(t, w, Stdout, strings.Repeat(string(rune('a'+i%26)), 50)+"\n")
	}
	var kept [][]byte
	for e, err := range Read(t.Context(), path, nil) {
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, e.Line)
	}
	for i, line := range kept {
		_ = append(line, "overwritten"...) // must not reach the next one
		if want := strings.Repeat(string(rune('a'+i%26)), 50) + "\n"; string(line) != want {
			t.Fatalf("line %d became %q", i, line)
		}
	}
}
