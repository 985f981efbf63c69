package main

import (
	"errors"
	"strings"
)

// token is an operator or a word. A word is a list of parts, since a quoted
// part is expanded in another way than a bare one.
type token struct {
	op     string
	parts  []part
	quoted bool // '' is a word, an empty $X is none
}

type part struct {
	text    string
	literal bool // single quotes: $ means nothing
}

// operators, the longest first.
var operators = []string{"2>&1", ">&2", "2>>", "&&", "||", ">>", "2>", ">", "<", ";", "&", "\n"}

func split(script string) ([]token, error) {
	var all []token
	var word token
	var bare strings.Builder
	flushBare := func() {
		if bare.Len() > 0 {
			word.parts = append(word.parts, part{text: bare.String()})
			bare.Reset()
		}
	}
	flush := func() {
		flushBare()
		if len(word.parts) > 0 || word.quoted {
			all = append(all, word)
		}
		word = token{}
	}
	inWord := func() bool { return bare.Len() > 0 || len(word.parts) > 0 || word.quoted }
	for i := 0; i < len(script); {
		c := script[i]
		if op := operatorAt(script[i:], inWord()); op != "" {
			flush()
			all = append(all, token{op: op})
			i += len(op)
			continue
		}
		switch {
		case c == ' ' || c == '\t' || c == '\r':
			flush()
			i++
		case c == '#' && !inWord():
			for i < len(script) && script[i] != '\n' {
				i++
			}
		case c == '\\' && i+1 < len(script):
			flushBare()
			if script[i+1] != '\n' {
				word.parts = append(word.parts, part{text: script[i+1 : i+2], literal: true})
			}
			i += 2
		case c == '\'' || c == '"':
			text, n, err := quoted(script[i:])
			if err != nil {
				return nil, err
			}
			flushBare()
			word.quoted = true
			word.parts = append(word.parts, text...)
			i += n
		default:
			bare.WriteByte(c)
			i++
		}
	}
	flush()
	return all, nil
}

// operatorAt finds an operator at the start of s. "2>" is one only where a
// word could begin: "x2>f" writes x2.
func operatorAt(s string, inWord bool) string {
	for _, op := range operators {
		if strings.HasPrefix(s, op) && !(inWord && op[0] == '2') {
			return op
		}
	}
	return ""
}

// quoted reads a quoted string; in double quotes \" \\ and \$ are escapes.
func quoted(s string) ([]part, int, error) {
	q := s[0]
	var parts []part
	start := 1
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == q:
			return append(parts, part{text: s[start:i], literal: q == '\''}), i + 1, nil
		case q == '"' && s[i] == '\\' && i+1 < len(s) && strings.IndexByte("\"\\$`", s[i+1]) >= 0:
			parts = append(parts, part{text: s[start:i]}, part{text: s[i+1 : i+2], literal: true})
			i++
			start = i + 1
		}
	}
	return nil, 0, errors.New("quote without an end")
}

// expand replaces variables. The result stays one word: no field splitting.
func (s *shell) expand(t token) string {
	var b strings.Builder
	for _, p := range t.parts {
		if p.literal {
			b.WriteString(p.text)
			continue
		}
		s.expandInto(&b, p.text)
	}
	return b.String()
}

func (s *shell) expandInto(b *strings.Builder, text string) {
	for i := 0; i < len(text); i++ {
		if text[i] != '$' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		rest := text[i+1:]
		if rest[0] == '{' {
			if end := strings.IndexByte(rest, '}'); end > 0 {
				name, otherwise, _ := strings.Cut(rest[1:end], ":-")
				v := s.variable(name)
				if v == "" {
					v = otherwise
				}
				b.WriteString(v)
				i += end + 1
				continue
			}
		}
		n := 0
		for n < len(rest) && isNameByte(rest[n]) {
			n++
		}
		if n == 0 && strings.IndexByte("?$@*#", rest[0]) >= 0 {
			n = 1
		}
		if n == 0 {
			b.WriteByte('$')
			continue
		}
		b.WriteString(s.variable(rest[:n]))
		i += n
	}
}
