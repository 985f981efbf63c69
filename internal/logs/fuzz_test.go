package logs

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"
)

// valid replaces each byte that is no UTF-8, as encoding/json does.
func valid(p []byte) []byte { return []byte(string([]rune(string(p)))) }

func FuzzRoundTrip(f *testing.F) {
	for _, s := range []string{"", "plain\n", "\x00\x01\x1f\x7f", `"\/`, "\xff\xc3", "é日𝄞\u2028", "\xed\xa0\x80", "1234567\"", "12345678\x80", "{\"log\":\""} {
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, attrs bool) {
		extra := ""
		if attrs {
			extra = attrsStart + `{"a":"}\"{"}`
		}
		line := lineEnd(appendEscaped([]byte(lineStart), text), Stderr, extra, noon)
		if bytes.IndexByte(line, '\n') != len(line)-1 || !utf8.Valid(line) {
			t.Fatalf("%q is no line", line)
		}
		line = line[:len(line)-1]
		var v struct{ Log string }
		if err := json.Unmarshal(line, &v); err != nil || v.Log != string(valid(text)) {
			t.Fatalf("encoding/json reads %q: %v", v.Log, err)
		}
		var d decoder
		for range 2 { // the second time with what the decoder remembers
			e, ok := d.fast(line)
			if !ok || !bytes.Equal(e.Line, valid(text)) || e.Stream != Stderr || !e.Time.Equal(noon) {
				t.Fatalf("%q from %q, %v", e.Line, line, ok)
			}
			slow, ok := d.slow(line)
			if !ok || !bytes.Equal(slow.Line, e.Line) {
				t.Fatalf("slowly %q", slow.Line)
			}
		}
	})
}

// FuzzDecode: whatever a line holds, what the fast way accepts is what
// encoding/json makes of it.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"log":"a\n","stream":"stdout","time":"2026-11-23T12:00:00.12Z"}`))
	f.Add([]byte(`{"log":"\ud834\udd1e\u00e9\/\b\f\ud800","stream":"stderr","attrs":{"a":"b\"}"},"time":"2026-11-23T12:00:00+01:00"}` + "\r"))
	f.Add([]byte(`{"log":"{"log":"x","stream":"stdout","time":"2026-11-23T12:00:00Z"}`))
	f.Add([]byte(`{"log":"\`))
	f.Add([]byte(`{"log":"\u12`))
	f.Add([]byte(`{"log":"","stream":"stdout","time":""}`))
	f.Add([]byte(`{"log":"","stream":"stdout","attrs":{"`))
	f.Add([]byte("{\"log\":\"\x00\xff\",\"stream\":\"stdout\",\"time\":\"2026-11-23T12:00:00Z\"}"))
	f.Fuzz(func(t *testing.T, line []byte) {
		if bytes.IndexByte(line, '\n') >= 0 {
			t.Skip()
		}
		d := decoder{attrs: true}
		d.decode(line)
		fast, ok := d.fast(line)
		if !ok {
			return
		}
		slow, ok := d.slow(line)
		if !ok || !bytes.Equal(fast.Line, slow.Line) || fast.Stream != slow.Stream || !fast.Time.Equal(slow.Time) || len(fast.Attrs) != len(slow.Attrs) {
			t.Fatalf("%q: fast %+q, slow %+q, %v", line, fast, slow, ok)
		}
	})
}

// FuzzBackward: of a file of any bytes, all complete lines are visited.
func FuzzBackward(f *testing.F) {
	f.Add([]byte("x\n" + `{"log":"a\n","stream":"stdout","time":"2026-11-23T12:00:00Z"}` + "\n\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		if bytes.IndexByte(file, 0) >= 0 {
			file = bytes.ReplaceAll(file, []byte{0}, bytes.Repeat([]byte{'z'}, 70_000)) // make long lines likely
		}
		if len(file) > maxLine {
			t.Skip()
		}
		var want [][]byte
		var offsets []int64
		var at int64
		for line := range bytes.Lines(file) {
			if len(line) > 0 && line[len(line)-1] == '\n' {
				want = append(want, line[:len(line)-1])
				offsets = append(offsets, at)
			}
			at += int64(len(line))
		}
		err := backward(bytes.NewReader(file), int64(len(file)), func(off int64, line []byte) bool {
			n := len(want) - 1
			if n < 0 || !bytes.Equal(line, want[n]) || off != offsets[n] {
				t.Fatalf("line %d at %d is %.100q", n, off, line)
			}
			want, offsets = want[:n], offsets[:n]
			return true
		})
		if err != nil || len(want) > 0 {
			t.Fatalf("%d lines not visited, %v", len(want), err)
		}
	})
}
