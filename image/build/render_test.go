package build

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// told are the events of a small build that fails.
func told() []Event {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	after := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	load := Step{ID: "l", Name: "[internal] load build definition"}
	from := Step{ID: "f", Name: "[1/3] FROM debian"}
	run := Step{ID: "r", Name: "[2/3] RUN make", Inputs: []string{"f"}}
	bad := Step{ID: "b", Name: "[3/3] RUN false"}
	hidden := Step{ID: "h", Name: "hidden", Internal: true}
	return []Event{
		{Kind: StepStarted, Step: load, Time: after(0)},
		{Kind: StepDone, Step: load, Time: after(10)},
		{Kind: StepStarted, Step: hidden, Time: after(10)},
		{Kind: StepDone, Step: hidden, Time: after(10)},
		{Kind: StepCached, Step: from, Time: after(20)},
		{Kind: StepStarted, Step: run, Time: after(100)},
		{Kind: StepLog, Step: run, Data: []byte("cc -o x"), Time: after(200)},
		{Kind: StepStarted, Step: bad, Time: after(210)},
		{Kind: StepLog, Step: run, Data: []byte(" x.c\n10%\r50%\r100%\r\nlast"), Time: after(223)},
		{Kind: StepProgress, Step: bad, Item: "sha256:1", Current: 1, Total: 2_500_000, Time: after(230)},
		{Kind: StepProgress, Step: bad, Item: "sha256:1", Current: 2, Total: 2_500_000, Time: after(231)},
		{Kind: StepProgress, Step: bad, Item: "sha256:1", Current: 2_500_000, Total: 2_500_000, Time: after(430)},
		{Kind: Warned, Warning: &Warning{Rule: "StageNameCasing", Text: "stage 'X' should be lowercase", Places: []Place{{"Dockerfile", 3, 3}}}},
		{Kind: StepDone, Step: run, Time: after(500)},
		{Kind: StepLog, Step: bad, Stderr: true, Data: []byte("it is wrong\n"), Time: after(600)},
		{Kind: StepFailed, Step: bad, Err: errors.New("[3/3] RUN false: exit code 1"), Time: after(610)},
	}
}

var errTold = &Error{Op: "build", Step: "[3/3] RUN false", File: "Dockerfile", First: 7, Last: 7, Excerpt: "  6 |     FROM x\n  7 | >>> RUN false\n", Err: errors.New("exit code 1")}

const plainTold = `#1 [internal] load build definition
#1 DONE 0.0s

#2 [1/3] FROM debian
#2 CACHED

#3 [2/3] RUN make

#4 [3/3] RUN false

#3 [2/3] RUN make
#3 0.123 cc -o x x.c
#3 0.123 100%

#4 [3/3] RUN false
#4 sha256:1 1B / 2.50MB
#4 sha256:1 2.50MB / 2.50MB 0.2s done

#3 [2/3] RUN make
#3 0.400 last
#3 DONE 0.4s

#4 [3/3] RUN false
#4 0.390 it is wrong
#4 ERROR: exit code 1


 1 warning found:
 - StageNameCasing: stage 'X' should be lowercase (line 3)
------
 > [3/3] RUN false:
0.390 it is wrong
------
Dockerfile:7
--------------------
  6 |     FROM x
  7 | >>> RUN false
--------------------
`

func TestPlainProgress(t *testing.T) {
	var b bytes.Buffer
	r, err := NewRenderer("auto", &b) // no terminal
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range told() {
		r.Event(e)
	}
	if err := r.Close(fmt.Errorf("wrapped: %w", errTold)); err != nil {
		t.Fatal(err)
	}
	r.Event(Event{Kind: StepDone, Step: Step{ID: "late"}})
	if err := r.Close(nil); err != nil {
		t.Fatal(err)
	}
	if b.String() != plainTold {
		t.Errorf("got\n%s\nwant\n%s", b.String(), plainTold)
	}
}

func TestQuietProgressShowsFailuresAlone(t *testing.T) {
	var b bytes.Buffer
	r, _ := NewRenderer("quiet", &b)
	for _, e := range told() {
		r.Event(e)
	}
	r.Close(errTold)
	if !strings.HasPrefix(b.String(), "------\n > [3/3] RUN false:\n") {
		t.Errorf("got %q", b.String())
	}
	if _, err := NewRenderer("loud", &b); err == nil {
		t.Error("unknown mode accepted")
	}
}

// terminal is a screen that understands what a renderer may write, and nothing
// else.
type terminal struct {
	t     *testing.T
	rows  []string
	at    int
	width int
}

func (v *terminal) Write(p []byte) (int, error) {
	s := string(p)
	for s != "" {
		switch {
		case strings.HasPrefix(s, "\x1b["):
			end := strings.IndexAny(s, "AKJmhl")
			var n int
			switch code := s[2 : end+1]; {
			case strings.HasSuffix(code, "A"):
				fmt.Sscanf(code, "%dA", &n)
				if v.at -= n; v.at < 0 {
					v.t.Fatalf("the cursor went %d lines above the screen", -v.at)
				}
			case code == "J":
				v.rows = v.rows[:v.at]
			case code == "K", code == "?25l", code == "?25h", strings.HasSuffix(code, "m"):
			default:
				v.t.Fatalf("unexpected sequence %q", s[:end+1])
			}
			s = s[end+1:]
		case s[0] == '\r':
			s = s[1:]
		default:
			line, rest, ok := strings.Cut(s, "\n")
			if !ok {
				v.t.Fatalf("unfinished line %q", s)
			}
			text := strings.NewReplacer("\x1b[K", "", colourEnd, "", colourDone, "", colourError, "").Replace(line)
			if strings.ContainsRune(text, 0x1b) {
				v.t.Fatalf("sequence within %q", text)
			}
			if columns(text) >= v.width {
				v.t.Fatalf("line of %d columns on a terminal of %d: %q", columns(text), v.width, text)
			}
			if v.at < len(v.rows) {
				v.rows[v.at] = text
			} else {
				v.rows = append(v.rows, text)
			}
			v.at++
			s = rest
		}
	}
	return len(p), nil
}

func newScreenTest(t *testing.T, width, height int, now *time.Time) (*terminal, *Renderer) {
	v := &terminal{t: t, width: width}
	r := &Renderer{log: newLedger(), w: v}
	r.log.begun, r.log.now = *now, func() time.Time { return *now }
	r.view = newScreen(r, func() (int, int) { return width, height })
	return v, r
}

func TestScreen(t *testing.T) {
	events := told()
	now := events[0].Time
	v, r := newScreenTest(t, 60, 20, &now)
	for _, e := range events[:12] {
		if !e.Time.IsZero() {
			now = e.Time
		}
		r.Event(e)
	}
	r.view.(*screen).draw(false)
	want := []string{
		"[+] Building 0.4s (2/4)",
		" => [internal] load build definition                  0.0s",
		" => CACHED [1/3] FROM debian                          0.0s",
		" => [2/3] RUN make                                    0.3s",
		" => => # cc -o x x.c",
		" => => # 100%",
		" => [3/3] RUN false                                   0.2s",
		" => => sha256:1 2.50MB / 2.50MB                       0.2s",
	}
	if got := strings.Join(v.rows, "\n"); got != strings.ReplaceAll(strings.Join(want, "\n"), "   0.", "    0.") {
		t.Errorf("got\n%s", got)
	}
	for _, e := range events[12:] {
		if !e.Time.IsZero() {
			now = e.Time
		}
		r.Event(e)
	}
	r.view.end()
	if v.rows[0] != "[+] Building 0.6s (4/4) FINISHED" || !strings.HasPrefix(v.rows[4], " => ERROR [3/3] RUN false") {
		t.Errorf("got\n%s", strings.Join(v.rows, "\n"))
	}
}

// TestScreenStaysInItsPlace: more steps than lines, names wider than the
// terminal, and output that wants to take it over.
func TestScreenStaysInItsPlace(t *testing.T) {
	now := time.Now()
	v, r := newScreenTest(t, 40, 8, &now)
	for i := range 30 {
		s := Step{ID: fmt.Sprint(i), Name: fmt.Sprintf("[%d/30] RUN \x1b[2J\x1b]0;owned\a %s", i, strings.Repeat("日本語é\t", 9))}
		r.Event(Event{Kind: StepStarted, Step: s, Time: now})
		r.Event(Event{Kind: StepLog, Step: s, Time: now, Data: []byte("\x1b[99A\x1b[?1049h\x9b2J\x1bc\x1b]52;c;eA==\x1b\\\u202e\u009b5A\x00\x08\x08\xff\n\x1b[")})
		r.view.(*screen).draw(false)
		if len(v.rows) > 8 {
			t.Fatalf("%d lines on a terminal of 8", len(v.rows))
		}
		if i%2 == 0 {
			r.Event(Event{Kind: StepDone, Step: s, Time: now})
		}
	}
	r.view.end()
}

func TestClean(t *testing.T) {
	for in, want := range map[string][2]string{
		"plain":                           {"plain", "plain"},
		"\x1b[1;31mred\x1b[0m":            {"red", "\x1b[1;31mred\x1b[0m\x1b[0m"},
		"\x1b[31":                         {"", ""},
		"\x1b[>4;2mx":                     {"x", "x"},
		"\x1b[8;1;1tx\x1b[6n":             {"x", "x"},
		"\x1b]0;title\ax\x1b]8;;u\x1b\\y": {"xy", "xy"},
		"\x1bP+q\x1b\\z\x1b_never ends":   {"z", "z"},
		"\x1b(0q\x1b7\x1bc":               {"q", "q"},
		"a\tb\rc\nd\x7f\x00":              {"a    b c d", "a    b c d"},
		"\u009b31mx\u202ey\u200bz\u2028":  {"xyz", "xyz"},
		"\xff\xfe":                        {"\ufffd\ufffd", "\ufffd\ufffd"},
		"end\x1b":                         {"end", "end"},
	} {
		for i, colours := range []bool{false, true} {
			if got := clean(in, colours); got != want[i] {
				t.Errorf("clean(%q, %v) = %q, want %q", in, colours, got, want[i])
			}
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("\x1b[31mx\x1b]0;t\a\u009b2J\x9b")
	f.Fuzz(func(t *testing.T, s string) {
		got := clean(s, false)
		if strings.ContainsFunc(got, func(c rune) bool { return c < 0x20 || c >= 0x7f && c < 0xa0 }) {
			t.Errorf("%q became %q", s, got)
		}
		for _, w := range []int{0, 1, 7, 80} {
			if c := columns(fit(got, w)); c > w {
				t.Errorf("%q takes %d columns of %d", got, c, w)
			}
		}
	})
}

// TestLongLines: output without line ends cannot fill the memory.
func TestLongLines(t *testing.T) {
	l := newLedger()
	s := Step{ID: "x"}
	for range 100 {
		l.add(&Event{Kind: StepLog, Step: s, Data: bytes.Repeat([]byte("x"), 10_000), Time: time.Now()})
	}
	if got := l.byID["x"]; len(got.tail) > tailLines || len(got.partial) > maxLine {
		t.Errorf("%d lines, %d bytes", len(got.tail), len(got.partial))
	}
}

func TestRealTicks(t *testing.T) {
	v := &terminal{t: t, width: 80}
	r, err := NewRenderer(ProgressTTY, v)
	if err != nil {
		t.Fatal(err)
	}
	r.Event(Event{Kind: StepStarted, Step: Step{ID: "a", Name: "a"}})
	time.Sleep(2 * frame)
	r.Event(Event{Kind: StepDone, Step: Step{ID: "a", Name: "a"}})
	if err := r.Close(nil); err != nil || len(v.rows) != 2 {
		t.Errorf("%q, %v", v.rows, err)
	}
}
