package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 120000000, time.UTC)

func newWriter(t testing.TB, opts *Options) (*Writer, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	w, err := Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w, path
}

func write(t testing.TB, w *Writer, s Stream, text string) {
	t.Helper()
	if err := w.Write(s, []byte(text), noon); err != nil {
		t.Fatal(err)
	}
}

// all reads a whole log.
func all(t testing.TB, path string, opts *ReadOptions) []Entry {
	t.Helper()
	var out []Entry
	for e, err := range Read(t.Context(), path, opts) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

func texts(list []Entry) []string {
	var out []string
	for _, e := range list {
		out = append(out, string(e.Line))
	}
	return out
}

func TestDockerFormat(t *testing.T) {
	w, path := newWriter(t, &Options{Attrs: map[string]string{"b": "2", "a": "1"}})
	write(t, w, Stdout, "hello\n")
	write(t, w, Stderr, "\x00\x1b[1m\t\"\\\r\xff<&>\u2028é\n")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"log":"hello\n","stream":"stdout","attrs":{"a":"1","b":"2"},"time":"2026-11-23T12:00:00.12Z"}` + "\n" +
		`{"log":"\u0000\u001b[1m\t\"\\\r\ufffd<&>` + "\u2028é" + `\n","stream":"stderr","attrs":{"a":"1","b":"2"},"time":"2026-11-23T12:00:00.12Z"}` + "\n"
	if string(data) != want {
		t.Errorf("got\n%swant\n%s", data, want)
	}
	got := all(t, path, &ReadOptions{Tail: -1, Attrs: true})
	if len(got) != 2 || got[1].Stream != Stderr || !got[1].Time.Equal(noon) || got[1].Attrs["b"] != "2" ||
		string(got[1].Line) != "\x00\x1b[1m\t\"\\\r\ufffd<&>\u2028é\n" {
		t.Errorf("read back %+q", got)
	}
}

func TestUnfinishedLines(t *testing.T) {
	w, path := newWriter(t, nil)
	write(t, w, Stdout, "one ")
	write(t, w, Stderr, "warning ")
	write(t, w, Stdout, "line\nsecond ")
	if got := texts(all(t, path, nil)); !slices.Equal(got, []string{"one line\n"}) {
		t.Fatalf("before the end: %q", got)
	}
	if err := w.Flush(noon); err != nil {
		t.Fatal(err)
	}
	write(t, w, Stdout, "half\n")
	write(t, w, Stdout, "last")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatalf("second Close: %v", err)
	}
	if got := texts(all(t, path, nil)); !slices.Equal(got, []string{"one line\n", "second ", "warning ", "half\n", "last"}) {
		t.Errorf("after the end: %q", got)
	}
	if err := w.Write(Stdout, nil, noon); err == nil {
		t.Error("a closed writer takes more")
	}
}

// TestAnyChunks: however the output is cut into chunks, what is read back is
// the same, and pieces end at 16 KiB but never within a rune.
func TestAnyChunks(t *testing.T) {
	var out bytes.Buffer
	for i := range 60 {
		out.WriteString(strings.Repeat("añ日𝄞", i*i*2))
		out.WriteByte('\n')
	}
	out.WriteString(strings.Repeat("x", maxPiece) + "\n" + strings.Repeat("y", maxPiece-1) + "\n" + strings.Repeat("日", maxPiece))
	for _, size := range []int{1, 7, 100, maxPiece - 1, maxPiece, maxPiece + 1, 50_000, out.Len()} {
		w, path := newWriter(t, nil)
		for chunk := range slices.Chunk(out.Bytes(), size) {
			if err := w.Write(Stdout, chunk, noon); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		var back bytes.Buffer
		for _, e := range all(t, path, nil) {
			back.Write(e.Line)
			if n := len(e.Line); n > maxPiece+1 || n < maxPiece-3 && !bytes.HasSuffix(e.Line, []byte("\n")) && back.Len() < out.Len() {
				t.Errorf("chunks of %d: an entry of %d bytes", size, n)
			}
		}
		if !bytes.Equal(back.Bytes(), out.Bytes()) {
			t.Errorf("chunks of %d: read back %d bytes of %d", size, back.Len(), out.Len())
		}
	}
}

func TestRotation(t *testing.T) {
	w, path := newWriter(t, &Options{MaxSize: 1000, MaxFile: 3})
	for i := range 200 {
		write(t, w, Stdout, fmt.Sprintf("line %03d\nand %03d\n", i, i))
	}
	var total int
	for n := range 4 {
		info, err := os.Stat(numbered(path, n))
		if n == 3 {
			if err == nil {
				t.Error("a fourth file")
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 1000 || n > 0 && info.Size() < 900 {
			t.Errorf("%s has %d bytes", info.Name(), info.Size())
		}
		total += int(info.Size())
	}
	got := texts(all(t, path, nil))
	if got[len(got)-1] != "and 199\n" {
		t.Errorf("ends with %q", got[len(got)-1])
	}
	first := 400 - len(got)
	for i, line := range got {
		want := fmt.Sprintf("line %03d\n", (first+i)/2)
		if (first+i)%2 == 1 {
			want = fmt.Sprintf("and %03d\n", (first+i)/2)
		}
		if line != want {
			t.Fatalf("entry %d is %q, want %q", i, line, want)
		}
	}
	w.Close()
	if _, err := Open(path, &Options{MaxSize: 1000}); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("with one file kept: %v", entries)
	}
}

// TestOneFile: with a limit and one file, old output goes, and an entry that
// is larger than the limit is written all the same.
func TestOneFile(t *testing.T) {
	w, path := newWriter(t, &Options{MaxSize: 500})
	big := strings.Repeat("b", 2000) + "\n"
	write(t, w, Stdout, "small\n"+big+"last\n")
	if got := texts(all(t, path, nil)); !slices.Equal(got, []string{"last\n"}) {
		t.Errorf("%d entries", len(got))
	}
	write(t, w, Stdout, big)
	if got := texts(all(t, path, nil)); !slices.Equal(got, []string{big}) {
		t.Errorf("%d entries", len(got))
	}
}

func TestReopenEndsTornLine(t *testing.T) {
	w, path := newWriter(t, nil)
	write(t, w, Stdout, "whole\ntorn\n")
	w.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	start := bytes.IndexByte(whole, '\n') + 1
	for end := start; end <= len(whole); end++ { // a crash after any byte
		if err := os.WriteFile(path, whole[:end], 0o640); err != nil {
			t.Fatal(err)
		}
		w, err := Open(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		write(t, w, Stdout, "next\n")
		w.Close()
		want := []string{"whole\n", "next\n"}
		if end >= len(whole)-1 {
			want = []string{"whole\n", "torn\n", "next\n"}
		}
		if got := texts(all(t, path, nil)); !slices.Equal(got, want) {
			t.Fatalf("torn after %d bytes: %q", end, got)
		}
	}
}

func TestConcurrentStreams(t *testing.T) {
	w, path := newWriter(t, &Options{MaxSize: 20_000, MaxFile: 100})
	var wg sync.WaitGroup
	for _, s := range []Stream{Stdout, Stderr} {
		wg.Go(func() {
			for i := range 1000 {
				if err := w.Write(s, fmt.Appendf(nil, "%d a\n%d ", i, i), time.Now()); err != nil {
					t.Error(err)
				}
				if err := w.Write(s, []byte("b\n"), time.Now()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, o := range []ReadOptions{{Stdout: true, Tail: -1}, {Stderr: true, Tail: -1}} {
		got := all(t, path, &o)
		if len(got) != 2000 {
			t.Fatalf("%d entries", len(got))
		}
		for i, e := range got {
			if want := fmt.Sprintf("%d %c\n", i/2, 'a'+i%2); string(e.Line) != want {
				t.Fatalf("entry %d is %q", i, e.Line)
			}
		}
	}
}

func TestBadOptions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for _, o := range []Options{{MaxSize: -1}, {MaxFile: -1}, {Attrs: map[string]string{"a": strings.Repeat("x", maxAttrs)}}} {
		if _, err := Open(path, &o); err == nil {
			t.Errorf("%v accepted", o.MaxSize)
		}
	}
	w, _ := newWriter(t, nil)
	if err := w.Write("stdlog", []byte("x"), noon); err == nil {
		t.Error("unknown stream accepted")
	}
	if _, err := Open(filepath.Join(t.TempDir(), "absent", "log"), nil); err == nil {
		t.Error("opened a log without a directory")
	}
}

// TestJSONAgrees: every line is what encoding/json reads too.
func TestJSONAgrees(t *testing.T) {
	w, path := newWriter(t, nil)
	var text []byte
	for c := range 256 {
		text = append(text, byte(c), 'x', byte(255-c))
	}
	text = append(bytes.ReplaceAll(text, []byte("\n"), nil), '\n')
	write(t, w, Stdout, string(text))
	data, _ := os.ReadFile(path)
	var v struct{ Log string }
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	if got := texts(all(t, path, nil)); len(got) != 1 || got[0] != v.Log || v.Log != string(bytes.ToValidUTF8(text, nil)) && v.Log != string([]rune(string(text))) {
		t.Errorf("got %q, encoding/json %q", got, v.Log)
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	w, _ := newWriter(t, nil)
	chunk := bytes.Repeat([]byte("some words \"quoted\" of output\n"), 1000)
	chunk = append(chunk, "unfinished"...)
	write(t, w, Stdout, string(chunk))
	if n := testing.AllocsPerRun(20, func() {
		if err := w.Write(Stdout, chunk, noon); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations a chunk", n)
	}
}

func canceled(t testing.TB) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
