package archive

import (
	"errors"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
)

// unsure is an error that might be none, or the other way round, if lower
// layers were in sight.
type unsure struct{ error }

func (e unsure) Unwrap() error { return e.error }

// assumes reports whether the layer has already been taken to mean something
// that only lower layers can confirm.
func (t *tree) assumes() bool {
	others := len(t.implicit)
	if t.implicit["."] {
		others--
	}
	return t.isolated && others+len(t.described)+len(t.foreign) > 0
}

// walk goes component by component.
func (t *tree) walk(name string, create bool) (*dirRef, string, error) {
	cur, rest, links := t.root, strings.Split(name, "/"), 0
	for len(rest) > 0 {
		c := rest[0]
		rest = rest[1:]
		switch c {
		case "", ".":
			continue
		case "..":
			up, err := t.dir(path.Dir(cur.path))
			if err != nil {
				return nil, "", err
			}
			cur = up
			continue
		}
		next, target, err := t.step(cur, c, create)
		if err != nil {
			return nil, "", err
		}
		if target == "" {
			if next == nil {
				if slices.Contains(rest, "..") {
					t.ordered = true // cleaned without knowing what c is
				}
				return nil, path.Join(cur.path, c, path.Join(rest...)), nil
			}
			cur = next
			continue
		}
		if links++; links > linksMax {
			return nil, "", unsure{fault.Invalid("too many symbolic links in %q", name)}
		}
		rest = append(strings.Split(target, "/"), rest...)
		if target[0] == '/' {
			cur = t.root
		}
	}
	// Over lower layers a link can be hidden without being removed here, and
	// the name would go on meaning what it led to.
	if cur != t.root && t.lowers == nil {
		t.keep(name, cur)
	}
	return cur, "", nil
}

// step goes from d to its component c: a directory, or the target of a
// symbolic link. Without create, both are empty when c is absent.
func (t *tree) step(d *dirRef, c string, create bool) (*dirRef, string, error) {
	p := join(d.path, c)
	if len(p) > pathMax {
		return nil, "", fault.Invalid("path is longer than %d bytes", pathMax)
	}
	next := t.cached(p)
	if next == nil {
		var err error
		if next, err = t.child(d, c, p); err != nil {
			return nil, "", err
		}
	}
	if next != nil {
		return next, "", t.checkOver(p)
	}
	target, err := readlinkat(d.fd, c)
	switch {
	case err == nil && target == "":
		return nil, "", fault.Invalid("%q is an empty symbolic link", p)
	case err == nil:
		// What it leads to may depend on what lower layers hold.
		t.ordered = true
		if t.strict {
			return nil, "", ErrReapply
		}
		return nil, target, nil
	case errors.Is(err, unix.EINVAL): // neither directory nor link: the later entry wins
		if t.strict {
			return nil, "", ErrReapply
		}
		_, waiting := t.links[p] // perhaps a hard link to a symbolic link
		if waiting || !create {
			return nil, "", unsure{fault.Invalid("%q is not a directory", p)}
		}
		if err := t.sameKind(d, c, true); err != nil {
			return nil, "", err
		}
		if err := t.replaceByDir(d, c); err != nil {
			return nil, "", err
		}
		t.imply(p, nil)
		next, err := t.mustChild(d, c, p)
		return next, "", err
	case !errors.Is(err, unix.ENOENT):
		return nil, "", err
	}
	return t.missing(d, c, p, create)
}

// checkOver asks for the archive when a directory of the layer stands where the
// lower layers have something else: earlier entries met that.
func (t *tree) checkOver(p string) error {
	if !t.strict {
		return nil
	}
	n, err := t.lowers.lookup(p)
	if err == nil && (n.kind == kindLink || n.kind == kindOther) {
		err = ErrReapply
	}
	return err
}

// missing is step where the tree has nothing at p.
func (t *tree) missing(d *dirRef, c, p string, create bool) (*dirRef, string, error) {
	hidden, err := t.hidden(d.path)
	if err != nil {
		return nil, "", err
	}
	var lower *node
	if t.lowers != nil && !hidden {
		if lower, err = t.lowers.lookup(p); err != nil {
			return nil, "", err
		}
		if lower.kind == kindLink {
			t.passed[p] = true
			return nil, lower.target, nil
		}
	}
	if t.strict && hidden {
		return nil, "", ErrReapply
	}
	// A copy of a lower directory changes nothing, so looking may make one.
	if !create && (lower == nil || lower.kind != kindDir) {
		return nil, "", nil
	}
	if err := t.mkdir(d, c); err != nil {
		return nil, "", err
	}
	var m *dirMeta
	if lower != nil && lower.kind == kindDir {
		if m, err = t.lowers.meta(p, lower); err != nil {
			return nil, "", err
		}
	}
	if t.isolated && !hidden {
		t.implicit[p] = true
	}
	t.imply(p, m)
	next, err := t.mustChild(d, c, p)
	return next, "", err
}

func (t *tree) mustChild(d *dirRef, c, p string) (*dirRef, error) {
	next, err := t.child(d, c, p)
	if err == nil && next == nil {
		err = errors.New("a directory vanished while the archive was unpacked: something else writes there")
	}
	return next, err
}

// imply notes what a directory that no entry describes gets in the end.
func (t *tree) imply(p string, m *dirMeta) {
	if m == nil {
		m = &dirMeta{Meta: Meta{Mode: 0o755, UID: t.zeroUID, GID: t.zeroGID}}
	}
	t.pending[p] = m
	t.implied[p] = true
}

// hidden reports whether lower layers do not show below p, because of p or a
// directory above it.
func (t *tree) hidden(p string) (bool, error) {
	if !t.style.overlay() || (len(t.opaque) == 0 && !t.strict) {
		return false, nil
	}
	for {
		if t.opaque[p] {
			return true, nil
		}
		if t.strict && p != "." {
			o, err := t.opaqueOnDisk(p)
			if err != nil || o {
				return o, err
			}
		}
		if p == "." {
			return false, nil
		}
		p = path.Dir(p)
	}
}
