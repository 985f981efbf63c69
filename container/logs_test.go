package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// collect reads a log to its end.
func collect(t *testing.T, c *Container, opts *LogOptions) []LogEntry {
	t.Helper()
	var all []LogEntry
	for e, err := range c.Logs(t.Context(), opts) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func TestLogsFollowToTheEnd(t *testing.T) {
	b := newBench(t)
	const lines = 100000
	c := b.start(t, Spec{}, "spew", "-n", fmt.Sprint(lines), "some text")
	n, last := 0, ""
	for e, err := range c.Logs(t.Context(), &LogOptions{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		last = string(e.Line)
		if want := fmt.Sprintf("%d some text", n); strings.TrimSuffix(last, "\n") != want {
			t.Fatalf("line %d is %q", n, last)
		}
	}
	if n != lines || last != fmt.Sprintf("%d some text", lines) {
		t.Errorf("%d lines, the last %q", n, last)
	}
	if got := inspect(t, c).Status; got != Exited {
		t.Errorf("the log ended while the container is %s", got)
	}
	// The same again from the beginning, and its end alone.
	if got := collect(t, c, nil); len(got) != lines {
		t.Errorf("%d lines read afterwards", len(got))
	}
	if got := collect(t, c, &LogOptions{Tail: 2}); len(got) != 2 || string(got[1].Line) != last {
		t.Errorf("tail %v", got)
	}
}

// A follower must get the last line without its newline before it ends, also
// when the line came just before the end.
func TestLogsLastLine(t *testing.T) {
	b := newBench(t)
	for range 5 {
		c := b.create(t, Spec{}, "echo", "-n", "bye")
		follow := make(chan string, 1)
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		go func() {
			var s strings.Builder
			for e := range c.Logs(t.Context(), &LogOptions{Follow: true}) {
				s.Write(e.Line)
			}
			follow <- s.String()
		}()
		if got := <-follow; got != "bye" {
			t.Errorf("followed %q", got)
		}
	}
}

func TestLogsOptions(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{}, "sh", "-c", "echo 1; sleep 0.05; echo 2 >&2; sleep 0.05; echo 3")
	wait(t, c)
	all := collect(t, c, nil)
	if len(all) != 3 || all[1].Stream != "stderr" || all[0].Stream != "stdout" {
		t.Fatalf("%v", all)
	}
	text := func(opts *LogOptions) string {
		var s []string
		for _, e := range collect(t, c, opts) {
			s = append(s, strings.TrimSpace(string(e.Line)))
		}
		return strings.Join(s, "")
	}
	for _, tt := range []struct {
		opts LogOptions
		want string
	}{
		{LogOptions{Stdout: true}, "13"},
		{LogOptions{Stderr: true}, "2"},
		{LogOptions{Tail: 1}, "3"},
		{LogOptions{Tail: 1, Stderr: true}, "2"},
		{LogOptions{Tail: -1}, ""},
		{LogOptions{Since: all[1].Time}, "23"},
		{LogOptions{Until: all[1].Time}, "12"},
		{LogOptions{Since: all[1].Time, Until: all[1].Time}, "2"},
		{LogOptions{Follow: true}, "123"},
	} {
		if got := text(&tt.opts); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.opts, got, tt.want)
		}
	}
	// A second run appends.
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait(t, c)
	if got := text(&LogOptions{Stdout: true}); got != "1313" {
		t.Errorf("after two runs: %q", got)
	}
}

func TestLogsCancel(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{}, "sh", "-c", "echo x; pause")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	n := 0
	for _, err := range c.Logs(ctx, &LogOptions{Follow: true}) {
		if last = err; err == nil {
			n++
			cancel()
		}
	}
	is(t, last, context.Canceled)
	if n != 1 {
		t.Errorf("%d entries", n)
	}
	if got := inspect(t, c).Status; got != Running {
		t.Errorf("status %s", got)
	}
}

func TestLogsRotate(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{Log: Log{MaxSize: 64 << 10, MaxFile: 3}}, "spew", "20000")
	wait(t, c)
	files, err := filepath.Glob(b.root.Path(c.ID(), "log*"))
	if err != nil || len(files) != 3 {
		t.Errorf("files %v, %v", files, err)
	}
	for _, f := range files {
		if st, err := os.Stat(f); err != nil || st.Size() > 80<<10 {
			t.Errorf("%s: %d bytes, %v", f, st.Size(), err)
		}
	}
	all := collect(t, c, nil)
	for i, e := range all {
		if want := fmt.Sprintf("%d ", 20000-len(all)+1+i); !strings.HasPrefix(string(e.Line), want) {
			t.Fatalf("entry %d is %q, want %q", i, e.Line, want)
		}
	}
	if len(all) < 500 {
		t.Errorf("only %d entries are left", len(all))
	}
}

func TestLogsNone(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{Log: Log{Driver: "none"}}, "echo", "x")
	wait(t, c)
	for _, err := range c.Logs(t.Context(), nil) {
		is(t, err, errors.ErrUnsupported)
		says(t, err, "none")
	}
	if _, err := os.Stat(b.root.Path(c.ID(), "log")); err == nil {
		t.Error("there is a log")
	}
}

// A prompt without a newline is in the log though nothing follows it.
func TestLogsPrompt(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{}, "sh", "-c", "echo -n login:; pause")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for e, err := range c.Logs(ctx, &LogOptions{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if string(e.Line) != "login:" || time.Since(e.Time) < 0 {
			t.Errorf("%q at %v", e.Line, e.Time)
		}
		break
	}
}
