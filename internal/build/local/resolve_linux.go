package local

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Copies resolve names as continuity's fs.RootPath does, which reads a link
// with the names before it as they are, goes on with what it says, and begins
// again until no link is left. Where links lead through links that is not quite
// what the kernel does, so it is done here the same way, on the manifest.

// passMax and kernelMax are how many links that and the kernel follow.
const (
	passMax   = 255
	kernelMax = 40
)

// locate returns what name leads to, clean and without links, save a last one
// if that is not to be followed. It need not exist. It is false where a copy
// fails.
func (m *Manifest) locate(name string, last bool) (string, bool) {
	name = path.Join("/", name)
	if name == "/" {
		return name, true
	}
	if last {
		return m.resolve(name)
	}
	dir, base := path.Split(name)
	dir, ok := m.resolve(dir)
	return path.Join(dir, base), ok
}

func (m *Manifest) resolve(name string) (string, bool) {
	links := 0
	for {
		before := links
		next, ok := m.pass(name, &links)
		if !ok {
			return "", false
		}
		if links == before {
			if next = path.Join("/", next); next == name {
				return next, true
			}
		}
		name = next
	}
}

// pass replaces links from left to right.
func (m *Manifest) pass(name string, links *int) (string, bool) {
	dir, base := path.Split(name)
	switch {
	case dir == "":
		next, _, ok := m.readlink(base, links)
		return next, ok
	case base == "":
		if dir == "/" {
			return dir, true
		}
		return m.pass(dir[:len(dir)-1], links)
	}
	dir, ok := m.pass(dir, links)
	if !ok {
		return "", false
	}
	next, link, ok := m.readlink(path.Join(dir, base), links)
	if !ok || !link || path.IsAbs(next) {
		return next, ok
	}
	return path.Join(dir, next), true
}

func (m *Manifest) readlink(name string, links *int) (target string, link, ok bool) {
	if *links > passMax {
		return "", false, false
	}
	name = path.Join("/", name)
	e, ok := m.stat(name)
	if !ok || e == nil || e.kind() != unix.S_IFLNK {
		return name, false, ok
	}
	*links++
	return e.link, true, true
}

// stat is the kernel's lstat of a clean name below the directory where the
// context is: nil if nothing is there, false if that depends on what is outside
// of the context, or is an error.
func (m *Manifest) stat(name string) (e *entry, ok bool) { return m.walk(name, false) }

// inRoot is what a name leads to for who has the context as root: nil if
// nothing is there.
func (m *Manifest) inRoot(name string) *entry {
	e, _ := m.walk(name, true)
	return e
}

// walk follows links as the kernel does. With root the context's root is
// the process's, and a last link is followed.
func (m *Manifest) walk(name string, root bool) (e *entry, ok bool) {
	var way []*entry // above e
	e = m.root
	rest := strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		if part == "" || part == "." {
			continue
		}
		if !e.dir() {
			return nil, false // ENOTDIR
		}
		if part == ".." {
			if len(way) == 0 && !root {
				return nil, false
			}
			if len(way) == 0 {
				continue
			}
			e, way = way[len(way)-1], way[:len(way)-1]
			continue
		}
		k := e.child(part)
		if k == nil {
			return nil, true
		}
		if k.kind() == unix.S_IFLNK && (len(rest) > 0 || root) {
			if links++; links > kernelMax || path.IsAbs(k.link) && !root {
				return nil, false
			}
			if path.IsAbs(k.link) {
				e, way = m.root, nil
			}
			rest = append(strings.Split(k.link, "/"), rest...)
			continue
		}
		e, way = k, append(way, e)
	}
	return e, true
}
