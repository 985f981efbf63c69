package local

import (
	"path"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/build/op"
)

// Select is the identity of what a copy takes from the context: copies with the
// same fields and one identity write the same onto the same tree, and whatever
// a copy writes differently has another identity. Names that the copy itself
// does not fix count, owners do not. It is false where only the copy can tell:
// a source that does not exist is its error.
func (m *Manifest) Select(c *op.Copy) (digest.Digest, bool) {
	names, ok := m.sources(c)
	if !ok || (len(names) == 0 && !c.AllowNoMatch) {
		return "", false
	}
	s := &selection{picked: picked{buf: []byte(form), names: map[file]string{}}, copy: c}
	for _, name := range names {
		if !s.source(m, name) {
			return "", false
		}
	}
	for _, name := range c.Required {
		if !m.has(c, name) {
			return "", false
		}
	}
	return s.digest(), true
}

// has says whether something that the copy's patterns must find is there, by a
// name from the context's root or from the source.
func (m *Manifest) has(c *op.Copy, name string) bool {
	top := path.Join("/", c.Source)
	name = path.Join("/", name)
	if rest, ok := strings.CutPrefix(name, strings.TrimSuffix(top, "/")+"/"); ok || name == top {
		name = "/" + rest
		if !ok {
			name = "/"
		}
	}
	top, ok := m.locate(top, c.FollowLinks)
	if !ok {
		return false
	}
	e, ok := m.stat(path.Join(top, name))
	return ok && e != nil
}

// At is the identity of what a mount of path shows, where path is resolved
// inside the context: a directory with all below it, or a file. It is false if
// there is nothing.
func (m *Manifest) At(name string) (digest.Digest, bool) {
	e := m.inRoot(name)
	if e == nil {
		return "", false
	}
	p := &picked{buf: []byte(form), names: map[file]string{}}
	p.tree("", e)
	return p.digest(), true
}

// sources are the names that the copy begins with.
func (m *Manifest) sources(c *op.Copy) ([]string, bool) {
	if !c.Wildcards {
		return []string{withEnd(c.Source)}, true
	}
	plain, pattern := split(path.Join("/", c.Source))
	if pattern == "" {
		return []string{plain}, true
	}
	base, ok := m.locate(plain, c.FollowLinks)
	if !ok {
		return nil, false
	}
	e, ok := m.stat(base)
	if !ok || e == nil {
		return nil, false
	}
	return matches(nil, e, base, "", pattern), true
}

// withEnd cleans a name, but keeps "/" and "/." at its end: they make a
// difference for how the copy is called.
func withEnd(name string) string {
	clean := path.Join("/", name)
	end := ""
	if strings.HasSuffix(name, "/.") {
		end = "/."
	} else if strings.HasSuffix(name, "/") {
		end = "/"
	}
	if clean == "/" {
		end = strings.TrimPrefix(end, "/")
	}
	return clean + end
}

// split cuts a clean absolute name before its first part with wildcards.
func split(name string) (plain, pattern string) {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		if wild(p) {
			return path.Join("/", strings.Join(parts[:i], "/")), strings.Join(parts[i:], "/")
		}
	}
	return name, ""
}

// wild says whether there is a wildcard that is not escaped.
func wild(name string) bool {
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

// matches appends the names below e that match. What is below a match is part
// of it. A class such as [^a] matches "/", too, so every depth is tried.
func matches(list []string, e *entry, base, rel, pattern string) []string {
	for _, k := range e.kids {
		name := path.Join(rel, k.name)
		if ok, _ := filepath.Match(pattern, name); ok {
			list = append(list, path.Join(base, name))
			continue
		}
		list = matches(list, k, base, name, pattern)
	}
	return list
}

// selection is what a copy takes.
type selection struct {
	picked
	copy             *op.Copy
	include, exclude *patterns
}

// source adds what one of the names means.
func (s *selection) source(m *Manifest, name string) bool {
	if s.copy.Unpack && !s.archive(m, name) {
		return false
	}
	at, ok := m.locate(name, s.copy.FollowLinks)
	if !ok {
		return false
	}
	e, ok := m.stat(at)
	if !ok || e == nil {
		return false
	}
	base := path.Base(name)
	if s.copy.Contents && e.dir() {
		base = ""
	}
	s.buf = text(append(s.buf, 's'), base)
	if len(s.copy.Include) == 0 && len(s.copy.Exclude) == 0 || !e.dir() {
		s.tree(name, e)
		return true
	}
	return s.compile() && s.filtered(name, e)
}

// archive adds a file that may be unpacked: there, a last link is followed.
func (s *selection) archive(m *Manifest, name string) bool {
	at, ok := m.locate(name, true)
	if !ok {
		return false
	}
	e, ok := m.stat(at)
	if !ok {
		return false
	}
	if e != nil && e.regular() {
		s.buf = append(append(s.buf, 'a'), e.sum[:]...)
	}
	return true
}

func (s *selection) compile() bool {
	if s.include != nil || s.exclude != nil {
		return true
	}
	var err error
	if s.include, err = newPatterns(s.copy.Include); err == nil {
		s.exclude, err = newPatterns(s.copy.Exclude)
	}
	return err == nil
}

// filtered adds a directory and what the copy's patterns leave of it. The
// directory itself is always copied.
func (s *selection) filtered(name string, e *entry) bool {
	s.buf = e.append(append(s.buf, 'd'))
	return s.below(name, "", e, state{})
}

// below adds what is below a directory. A directory that does not match is
// copied if something below it does.
func (s *selection) below(name, rel string, e *entry, above state) bool {
	for _, k := range e.kids {
		sub := path.Join(rel, k.name)
		take, out, at, err := s.match(sub, above, k.dir())
		if err != nil {
			return false
		}
		begin := len(s.buf)
		if !k.dir() {
			if take {
				s.buf = k.append(text(append(s.buf, 'f'), k.name))
				if k.linked {
					s.link(name+"/"+sub, k)
				}
			}
			continue
		}
		mark := byte('p') // passed
		if take {
			mark = 'd'
		}
		s.buf = k.append(text(append(s.buf, mark), k.name))
		inside := len(s.buf)
		if !out || s.exclude.exceptions {
			if !s.below(name, sub, k, at) {
				return false
			}
		}
		if !take && len(s.buf) == inside {
			s.buf = s.buf[:begin]
			continue
		}
		s.buf = append(s.buf, 'e')
	}
	return true
}

func (s *selection) match(name string, above state, dir bool) (take, out bool, at state, err error) {
	take = true
	if s.include != nil {
		if take, at.include, err = s.include.match(name, above.include, dir); err != nil {
			return false, false, at, err
		}
	}
	if s.exclude != nil {
		if out, at.exclude, err = s.exclude.match(name, above.exclude, dir); err != nil {
			return false, false, at, err
		}
	}
	return take && !out, out, at, nil
}
