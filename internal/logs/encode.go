package logs

import (
	"encoding/binary"
	"math/bits"
	"time"
	"unicode/utf8"
)

const (
	lineStart = `{"log":"`
	hexDigits = "0123456789abcdef"
)

// lineEnd appends what follows the text of every entry of one chunk.
func lineEnd(dst []byte, s Stream, attrs string, t time.Time) []byte {
	dst = append(dst, `","stream":"`...)
	dst = append(dst, s...)
	dst = append(dst, '"')
	dst = append(dst, attrs...)
	dst = append(dst, `,"time":"`...)
	dst = t.UTC().AppendFormat(dst, time.RFC3339Nano)
	return append(dst, "\"}\n"...)
}

// appendEscaped appends p as the inside of a JSON string. Each byte that is
// not part of valid UTF-8 becomes U+FFFD.
func appendEscaped(dst, p []byte) []byte {
	for {
		n := plain(p)
		dst = append(dst, p[:n]...)
		if n == len(p) {
			return dst
		}
		p = p[n:]
		c := p[0]
		if c >= utf8.RuneSelf {
			n := validRunes(p)
			if n == 0 {
				dst = append(dst, `\ufffd`...)
				n = 1
			} else {
				dst = append(dst, p[:n]...)
			}
			p = p[n:]
			continue
		}
		dst = append(dst, '\\')
		switch c {
		case '"', '\\':
			dst = append(dst, c)
		case '\n':
			dst = append(dst, 'n')
		case '\r':
			dst = append(dst, 'r')
		case '\t':
			dst = append(dst, 't')
		default:
			dst = append(dst, 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		p = p[1:]
	}
}

// validRunes returns the length of the longest start of p that is valid UTF-8
// of runes beyond ASCII.
func validRunes(p []byte) int {
	n := 0
	for n < len(p) && p[n] >= utf8.RuneSelf {
		r, size := utf8.DecodeRune(p[n:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		n += size
	}
	return n
}

const (
	ones = 0x0101010101010101
	tops = 0x8080808080808080
)

// plain returns how many bytes at the start of p stand for themselves in a
// JSON string and are ASCII. It looks at eight bytes at a time: x-ones*n has
// its top bit set in each byte below n, up to the first such byte exactly,
// which is the one asked for.
func plain(p []byte) int {
	n := 0
	for ; len(p)-n >= 8; n += 8 {
		x := binary.LittleEndian.Uint64(p[n:])
		quote, slash := x^ones*'"', x^ones*'\\'
		special := (x-ones*0x20)&^x | (quote-ones)&^quote | (slash-ones)&^slash | x
		if special &= tops; special != 0 {
			return n + bits.TrailingZeros64(special)/8
		}
	}
	for ; n < len(p); n++ {
		if c := p[n]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			break
		}
	}
	return n
}

// cut returns where to end a piece of at most limit bytes of p without
// parting a rune.
func cut(p []byte, limit int) int {
	if len(p) <= limit {
		return len(p)
	}
	for i := limit; i > limit-utf8.UTFMax && i > 0; i-- {
		if !utf8.RuneStart(p[i]) {
			continue
		}
		r, size := utf8.DecodeRune(p[i:])
		if utf8.FullRune(p[i:]) && (r == utf8.RuneError && size == 1 || i+size <= limit) {
			return limit // what is cut is no rune
		}
		return i
	}
	return limit
}
