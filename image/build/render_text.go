package build

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean makes a line of text safe for a terminal: one line, without control
// characters, escape sequences and characters that change the direction of
// writing. With colours, sequences that set colours stay, and the line ends
// with their end.
func clean(s string, colours bool) string {
	var b strings.Builder
	coloured := false
	for i := 0; i < len(s); {
		c, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case c == 0x1b || c == 0x9b:
			end, sgr := sequence(s[i:])
			if sgr && colours {
				b.WriteString(s[i : i+end])
				coloured = true
			}
			n = end
		case c == '\t':
			b.WriteString("    ")
		case c == utf8.RuneError && n == 1:
			b.WriteRune(utf8.RuneError)
		case c == '\n' || c == '\r':
			b.WriteByte(' ')
		case unicode.IsControl(c), unicode.Is(unicode.Cf, c), c == 0x2028, c == 0x2029:
		default:
			b.WriteRune(c)
		}
		i += n
	}
	if coloured {
		b.WriteString("\x1b[0m")
	}
	return b.String()
}

// sequence is the length of the escape sequence that s begins with, and whether
// it is one that sets colours ("ESC [ 1 ; 31 m"). Strings to the terminal
// (titles, links, clipboards) are one sequence with what they contain; one that
// does not end reaches to the end of s.
func sequence(s string) (n int, sgr bool) {
	if strings.HasPrefix(s, "\u009b") {
		return csi(s, len("\u009b")), false
	}
	if len(s) < 2 {
		return len(s), false
	}
	switch s[1] {
	case '[':
		n = csi(s, 2)
		return n, s[n-1] == 'm' && strings.Trim(s[2:n-1], "0123456789;") == "" && n > 2
	case ']', 'P', 'X', '^', '_':
		for i := 2; i < len(s); i++ {
			if s[i] == 0x07 {
				return i + 1, false
			}
			if s[i] == 0x1b && i+1 < len(s) && s[i+1] == '\\' {
				return i + 2, false
			}
		}
		return len(s), false
	}
	i := 1
	for i < len(s) && s[i] >= 0x20 && s[i] <= 0x2f {
		i++
	}
	if i < len(s) && s[i] >= 0x30 && s[i] <= 0x7e {
		i++
	}
	return i, false
}

// csi is where a control sequence ends whose parameters begin at i.
func csi(s string, i int) int {
	for i < len(s) && s[i] >= 0x20 && s[i] <= 0x3f {
		i++
	}
	if i < len(s) && s[i] >= 0x40 && s[i] <= 0x7e {
		i++
	}
	return i
}

// columns is how many columns of a terminal a clean text takes.
func columns(s string) int {
	n := 0
	for _, c := range s {
		n += width(c)
	}
	return n
}

func width(c rune) int {
	switch {
	case c < 0x300:
		return 1
	case unicode.Is(unicode.Mn, c), unicode.Is(unicode.Me, c):
		return 0
	case c >= 0x1100 && c <= 0x115f, c >= 0x2e80 && c <= 0xa4cf, c >= 0xac00 && c <= 0xd7a3, c >= 0xf900 && c <= 0xfaff,
		c >= 0xfe30 && c <= 0xfe6f, c >= 0xff00 && c <= 0xff60, c >= 0xffe0 && c <= 0xffe6, c >= 0x1f000 && c <= 0x1faff, c >= 0x20000 && c <= 0x3fffd,
		c >= 0x231a && c <= 0x231b, c >= 0x23e9 && c <= 0x23f3, c >= 0x2600 && c <= 0x27bf, c >= 0x2b1b && c <= 0x2b55:
		return 2 // at most: a line that is too short does no harm
	}
	return 1
}

// fit cuts a clean text, or fills it up with spaces, to a number of columns.
func fit(s string, to int) string {
	if have := columns(s); have <= to {
		return s + strings.Repeat(" ", to-have)
	}
	n := 0
	for i, c := range s {
		if n+width(c) > to {
			return s[:i] + strings.Repeat(" ", to-n)
		}
		n += width(c)
	}
	return s
}
