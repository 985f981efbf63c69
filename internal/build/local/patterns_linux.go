package local

import (
	"path"
	"slices"
	"strings"

	"github.com/moby/patternmatcher"
)

// patterns match names as patternmatcher.PatternMatcher does for who walks over
// a tree. That takes some 100 ns for each name and pattern, more than looking
// at a file: a usual .dockerignore would cost more than the scan. So here most
// names are told from most patterns by comparing strings, and only what is left
// is asked of patternmatcher. Safe for concurrent use.
type patterns struct {
	list       []pattern
	exceptions bool
}

type pattern struct {
	*patternmatcher.Pattern
	exact  bool   // a plain name
	suffix string // "/name": a plain name at any depth
	part   string // is in every name that matches

	asked *patternmatcher.PatternMatcher // this pattern alone; of an exception, after one that matches all
	below patternmatcher.MatchInfo       // has asked look at the name alone, not at those above
	err   error
}

func newPatterns(list []string) (*patterns, error) {
	if len(list) == 0 {
		return nil, nil
	}
	all, err := patternmatcher.New(list)
	if err != nil {
		return nil, err
	}
	p := &patterns{exceptions: all.Exclusions()}
	kept := slices.DeleteFunc(slices.Clone(list), func(s string) bool { return strings.TrimSpace(s) == "" })
	for i, one := range all.Patterns() {
		q := pattern{Pattern: one}
		if err := q.prepare(kept[i]); err != nil {
			return nil, err
		}
		p.list = append(p.list, q)
	}
	return p, nil
}

// prepare has everything compiled that would be at the first use.
func (q *pattern) prepare(source string) error {
	text := q.String()
	if simple := plain(text); simple {
		rest, anywhere := strings.CutPrefix(text, "**/")
		q.exact = !strings.ContainsAny(text, "*?")
		if anywhere && !strings.ContainsAny(rest, "*?") && rest != "" {
			q.suffix = text[2:]
		}
		q.part = longest(text)
	}
	sources, examples := []string{source}, []string{"a"}
	if q.Exclusion() {
		sources, examples = []string{"**", source}, []string{"**", "!a"}
	}
	example, err := patternmatcher.New(examples)
	if err != nil {
		return err
	}
	if _, q.below, err = example.MatchesUsingParentResults("b", patternmatcher.MatchInfo{}); err != nil {
		return err
	}
	if q.asked, err = patternmatcher.New(sources); err != nil {
		return err
	}
	_, _, q.err = q.asked.MatchesUsingParentResults("b", q.below)
	return nil
}

// plain says whether a pattern has no characters but printable ASCII, and none
// that need more thought than wildcards.
func plain(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '\\' || c == '[' || c == ']' || c == '^' {
			return false
		}
	}
	return true
}

// longest is the longest part of a plain pattern without wildcards. "**/" is one.
func longest(text string) (best string) {
	for text != "" {
		i := strings.IndexAny(text, "*?")
		if i < 0 {
			i = len(text)
		}
		if i > len(best) {
			best = text[:i]
		}
		text = text[i:]
		if rest, ok := strings.CutPrefix(text, "**"); ok {
			text = strings.TrimPrefix(rest, "/")
		} else if text != "" {
			text = text[1:]
		}
	}
	return best
}

// match is whether the pattern matches that name, whatever is above it.
func (q *pattern) match(name string) (bool, error) {
	switch {
	case q.exact:
		return name == q.String(), nil
	case q.suffix != "":
		return strings.HasSuffix(name, q.suffix) || name == q.suffix[1:], nil
	case !strings.Contains(name, q.part):
		return false, nil
	case q.err != nil:
		return false, q.err
	}
	ok, _, err := q.asked.MatchesUsingParentResults(name, q.below)
	return ok != q.Exclusion(), err
}

// matchAbove is match for the directories that name is in.
func (q *pattern) matchAbove(name string) bool {
	for up := path.Dir(name); up != "."; up = path.Dir(up) {
		if ok, err := q.match(up); ok && err == nil {
			return true
		}
	}
	return false
}

// match says whether a name belongs to what the patterns mean. above is what
// they said of its directory, nil at the top; with at, what they say of this
// one is returned for what is below.
func (p *patterns) match(name string, above []bool, at bool) (matched bool, said []bool, err error) {
	if at {
		said = make([]bool, len(p.list))
	}
	for i := range p.list {
		q := &p.list[i]
		match := above != nil && above[i]
		if !match {
			if q.Exclusion() != matched {
				continue // it would change nothing
			}
			if match, err = q.match(name); err != nil {
				return false, nil, err
			}
			if above == nil && !match {
				match = q.matchAbove(name)
			}
		}
		if match {
			matched = !q.Exclusion()
		}
		if at {
			said[i] = match
		}
	}
	return matched, said, nil
}
