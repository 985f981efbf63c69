package logs

import (
	"bytes"
	"encoding/json"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// decoder decodes entries. Lines are cut from blocks, so that they cost the
// collector little and are still the receiver's to keep.
type decoder struct {
	attrs bool   // wanted
	block []byte // the rest of the current block

	// The time decoded last, which the lines of one chunk share, and the
	// attrs decoded last, which all lines of a writer share.
	timeText, attrsText []byte
	time                time.Time
	attrsMap            map[string]string
}

const blockSize = 64 << 10

// decode parses one line. A line that is damaged but holds an entry further
// on, as after a writer was killed and an older version did not close the
// torn line, yields that entry.
func (d *decoder) decode(line []byte) (Entry, bool) {
	for {
		if e, ok := d.entry(line); ok {
			return e, true
		}
		// The start of an entry cannot occur within one: quotes are escaped.
		next := bytes.Index(line[min(1, len(line)):], []byte(lineStart))
		if next < 0 {
			return Entry{}, false
		}
		line = line[1+next:]
	}
}

func (d *decoder) entry(line []byte) (Entry, bool) {
	if e, ok := d.fast(line); ok {
		return e, true
	}
	return d.slow(line)
}

// fast parses the layout that Writer and Docker write.
func (d *decoder) fast(line []byte) (e Entry, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(lineStart))
	if !ok {
		return e, false
	}
	n := stringEnd(rest)
	if n < 0 {
		return e, false
	}
	text := rest[:n]
	rest = rest[n:]
	switch {
	case bytes.HasPrefix(rest, []byte(`","stream":"stdout"`)):
		e.Stream = Stdout
	case bytes.HasPrefix(rest, []byte(`","stream":"stderr"`)):
		e.Stream = Stderr
	default:
		return e, false
	}
	rest = rest[len(`","stream":"stdout"`):]
	if n, ok = d.skipAttrs(rest); !ok {
		return e, false
	}
	if n > 0 && d.attrs {
		e.Attrs = d.attrsMap
	}
	rest, ok = bytes.CutPrefix(rest[n:], []byte(`,"time":"`))
	n = bytes.IndexByte(rest, '"')
	if !ok || n < 0 || string(bytes.TrimRight(rest[n:], "\r")) != `"}` {
		return e, false
	}
	if n == 0 || !bytes.Equal(rest[:n], d.timeText) {
		d.timeText = d.timeText[:0]
		if d.time.UnmarshalText(rest[:n]) != nil {
			return e, false
		}
		d.timeText = append(d.timeText, rest[:n]...)
	}
	e.Time = d.time
	e.Line, ok = d.unescape(text)
	return e, ok
}

const attrsStart = `,"attrs":`

// skipAttrs returns the length of the attrs at the start of p, 0 if there are
// none, and decodes them into attrsMap.
func (d *decoder) skipAttrs(p []byte) (n int, ok bool) {
	if !bytes.HasPrefix(p, []byte(attrsStart)) {
		return 0, true
	}
	if len(d.attrsText) > 0 && bytes.HasPrefix(p, d.attrsText) {
		return len(d.attrsText), true
	}
	end := len(attrsStart)
	for end < len(p) && p[end] != '}' {
		if p[end] == '"' {
			n := stringEnd(p[end+1:])
			if n < 0 {
				return 0, false
			}
			end += 1 + n
		}
		end++
	}
	if end == len(p) {
		return 0, false
	}
	end++
	m := map[string]string{}
	if json.Unmarshal(p[len(attrsStart):end], &m) != nil {
		return 0, false
	}
	d.attrsText = append(d.attrsText[:0], p[:end]...)
	d.attrsMap = m
	return end, true
}

// slow parses any JSON object that has the right fields.
func (d *decoder) slow(line []byte) (e Entry, ok bool) {
	var v struct {
		Log    string            `json:"log"`
		Stream Stream            `json:"stream"`
		Attrs  map[string]string `json:"attrs"`
		Time   time.Time         `json:"time"`
	}
	if json.Unmarshal(line, &v) != nil || v.Time.IsZero() || v.Stream != Stdout && v.Stream != Stderr {
		return e, false
	}
	e = Entry{Time: v.Time, Stream: v.Stream, Line: []byte(v.Log)}
	if d.attrs {
		e.Attrs = v.Attrs
	}
	return e, true
}

// stringEnd returns the index of the quote that ends a JSON string, -1 if
// there is none.
func stringEnd(p []byte) int {
	for at := 0; ; {
		n := bytes.IndexByte(p[at:], '"')
		if n < 0 {
			return -1
		}
		at += n
		slashes := 0
		for slashes < at && p[at-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return at
		}
		at++
	}
}

// unescape is the inverse of appendEscaped for what encodes valid UTF-8. It
// refuses what no JSON string contains.
func (d *decoder) unescape(text []byte) ([]byte, bool) {
	if len(d.block) < len(text) {
		d.block = make([]byte, max(blockSize, len(text)))
	}
	out := d.block[:0]
	for {
		n := bytes.IndexByte(text, '\\')
		if n < 0 {
			n = len(text)
		}
		if !clean(text[:n]) {
			return nil, false
		}
		out = append(out, text[:n]...)
		if n == len(text) {
			break
		}
		text = text[n:]
		var size int
		if out, size = appendUnescaped(out, text); size == 0 {
			return nil, false
		}
		text = text[size:]
	}
	n := len(out)
	d.block = d.block[n:]
	return out[:n:n], true
}

// clean reports whether p may stand in a JSON string as it is.
func clean(p []byte) bool {
	n := plain(p)
	if n == len(p) {
		return true
	}
	for _, c := range p[n:] {
		if c < 0x20 {
			return false
		}
	}
	return utf8.Valid(p[n:])
}

// appendUnescaped appends what the escape at the start of p stands for. size
// is the length of the escape, 0 if it is none. The result is never longer.
func appendUnescaped(dst, p []byte) (out []byte, size int) {
	if len(p) < 2 {
		return dst, 0
	}
	switch p[1] {
	case '"', '\\', '/':
		return append(dst, p[1]), 2
	case 'n':
		return append(dst, '\n'), 2
	case 'r':
		return append(dst, '\r'), 2
	case 't':
		return append(dst, '\t'), 2
	case 'b':
		return append(dst, '\b'), 2
	case 'f':
		return append(dst, '\f'), 2
	case 'u':
		r := hex4(p[2:])
		if r < 0 {
			return dst, 0
		}
		if utf16.IsSurrogate(r) {
			if len(p) >= 12 && p[6] == '\\' && p[7] == 'u' {
				if pair := utf16.DecodeRune(r, hex4(p[8:])); pair != utf8.RuneError {
					return utf8.AppendRune(dst, pair), 12
				}
			}
			r = utf8.RuneError
		}
		return utf8.AppendRune(dst, r), 6
	}
	return dst, 0
}

// hex4 reads four hexadecimal digits, -1 if there are none.
func hex4(p []byte) rune {
	if len(p) < 4 {
		return -1
	}
	var r rune
	for _, c := range p[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}
