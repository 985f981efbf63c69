package archive

import (
	"errors"
	"maps"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// mkdir makes a directory that nobody else can enter until finish. A base
// that exists is an error.
func (t *tree) mkdir(d *dirRef, base string) error {
	if err := t.touch(d); err != nil {
		return err
	}
	return unix.Mkdirat(d.fd, base, 0o700)
}

// mark notes that the archive brought base, and thereby what is above it. A
// directory that is merely passed on the way to a deleted name is not brought.
func (t *tree) mark(d *dirRef, base string) {
	if t.style.overlay() {
		for p := d.path; t.implied[p]; p = path.Dir(p) {
			delete(t.implied, p)
		}
		return
	}
	for p := join(d.path, base); t.made != nil && !t.made[p]; p = path.Dir(p) {
		t.made[p] = true
	}
}

// replaceByDir puts a directory where something else is. Lower layers must not
// show through it: what they have there was replaced first.
func (t *tree) replaceByDir(d *dirRef, base string) error {
	if err := t.remove(d, base); err != nil {
		return err
	}
	if err := t.mkdir(d, base); err != nil {
		return err
	}
	if !t.style.overlay() {
		return nil
	}
	next, err := t.mustChild(d, base, join(d.path, base))
	if err != nil {
		return err
	}
	return t.setOpaque(next)
}

// remove deletes base, with everything below it when it is a directory.
func (t *tree) remove(d *dirRef, base string) error {
	st, missing, err := lstat(d.fd, base)
	if err != nil || missing {
		return err
	}
	if err := t.touch(d); err != nil {
		return err
	}
	p := join(d.path, base)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		t.flush()
		t.forget(p)
		return removeTree(d.fd, base)
	case unix.S_IFLNK:
		t.flush()
	}
	delete(t.links, p)
	delete(t.upped, p)
	delete(t.made, p)
	return unix.Unlinkat(d.fd, base, 0)
}

// forget drops what is known of a directory that goes away.
func (t *tree) forget(dir string) {
	prefix := dir + "/"
	below := func(p string) bool { return p == dir || strings.HasPrefix(p, prefix) }
	for p := range t.implicit {
		if below(p) {
			t.describe(p)
		}
	}
	dropBelow(t.pending, below)
	dropBelow(t.links, below)
	for _, set := range []map[string]bool{t.opaque, t.whited, t.implied, t.upped, t.made} {
		dropBelow(set, below)
	}
}

func dropBelow[V any](m map[string]V, below func(string) bool) {
	maps.DeleteFunc(m, func(p string, _ V) bool { return below(p) })
}

// describe turns an implicit directory into one that an entry speaks of.
// Should a lower layer have a symbolic link there, then earlier entries went
// elsewhere and later ones do not.
func (t *tree) describe(p string) {
	if !t.implicit[p] {
		return
	}
	delete(t.implicit, p)
	if p != "." {
		t.described = append(t.described, p)
		t.ordered = true
	}
}

// removeTree deletes a directory. It holds one descriptor for each level.
func removeTree(dir int, base string) error {
	fd, err := openRetry(func() (int, error) {
		return unix.Openat(dir, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	list, err := names(fd)
	if err != nil {
		return err
	}
	for _, n := range list {
		err := unix.Unlinkat(fd, n, 0)
		if errors.Is(err, unix.EISDIR) {
			err = removeTree(fd, n)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return unix.Unlinkat(dir, base, unix.AT_REMOVEDIR)
}
