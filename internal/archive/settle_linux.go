package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// settler finishes one isolated layer.
type settler struct {
	*tree
	done     *Applied
	implicit map[string]bool
	moved    map[string]string // where a moved name is now
	moves    bool              // some names moved
	copied   map[string]string // lower file that was copied -> name that has it now
}

// Settle makes the layer in dir, unpacked by Apply with Isolated, what it
// would be had it been unpacked on the mounted lower layers, given topmost
// first and settled themselves: directories that its entries only pass get
// what the lower ones carry, names that pass a lower symbolic link move to
// where it leads, hard links to lower files get them. It does nothing outside
// dir. It returns ErrReapply when that cannot be told without the archive.
// After an error the content of dir is of no use. A layer without lowers is
// settled as well.
func Settle(ctx context.Context, dir string, lowers []string, done *Applied) error {
	if done.Again {
		return ErrReapply
	}
	t, err := openTree(dir, done.Whiteouts)
	if err != nil {
		return err
	}
	defer t.close()
	t.strict = true
	if t.lowers, err = openView(lowers); err != nil {
		return err
	}
	s := &settler{tree: t, done: done, implicit: map[string]bool{}, moved: map[string]string{}, copied: map[string]string{}}
	for _, p := range done.Implicit {
		s.implicit[p] = true
	}
	for _, p := range done.WhiteoutDirs {
		s.whited[p] = true
	}
	if err := s.settle(ctx); err != nil {
		return storeErr(fmt.Errorf("settling the layer: %w", err))
	}
	return nil
}

func (s *settler) settle(ctx context.Context) error {
	links, err := s.inherit()
	if err != nil {
		return err
	}
	s.moves = len(links) > 0
	for _, p := range links {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.reap()
		if err := s.move(p); err != nil {
			return fmt.Errorf("%q: %w", p, err)
		}
	}
	for _, l := range s.done.Links {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.reap()
		err := s.link(&l)
		if s.moves && errors.As(err, new(unsure)) {
			return ErrReapply // what moved may be the target
		}
		if err != nil {
			return entryErr(l.Name, err)
		}
	}
	for p := range s.passed {
		if _, missing, err := lstat(s.root.fd, p); err != nil || !missing {
			return ErrReapply // something that moved took the place of the link
		}
	}
	if err := s.complete(s.done.Opaque); err != nil {
		return err
	}
	return s.finish()
}

// inherit gives implicit directories what the lower ones carry. It returns
// those that are symbolic links below.
func (s *settler) inherit() (links []string, err error) {
	for _, p := range slices.Concat(s.done.Implicit, s.done.Described) {
		n, err := s.lowers.lookup(p)
		if err != nil {
			return nil, err
		}
		switch {
		case n.kind == kindLink && s.done.Ordered:
			return nil, ErrReapply
		case n.kind == kindLink:
			links = append(links, p)
		case n.kind == kindDir && s.implicit[p]:
			if s.pending[p], err = s.lowers.meta(p, n); err != nil {
				return nil, err
			}
		}
	}
	return links, nil
}

// complete does what needs all entries and the lower layers in sight.
func (t *tree) complete(opaqueRoot bool) error {
	t.reap()
	if opaqueRoot {
		t.opaque["."] = true
	}
	if err := t.prune(); err != nil {
		return err
	}
	return t.hideRoot(opaqueRoot)
}

// hideRoot does for the root what an opaque mark does for other directories.
func (t *tree) hideRoot(opaque bool) error {
	if !opaque {
		return nil
	}
	root, err := t.lowers.lookup(".")
	if err != nil || root.kind != kindDir {
		return err
	}
	list, err := t.lowers.names(".", root)
	if err != nil {
		return err
	}
	for _, name := range list {
		t.reap()
		if err := t.hide(t.root, name, false); err != nil {
			return err
		}
	}
	return nil
}

// move takes the implicit directory p, a symbolic link in the lower layers,
// out of the layer and merges its content into what the link leads to.
func (s *settler) move(p string) error {
	d, err := s.dir(path.Dir(p))
	if err != nil {
		return err
	}
	tmp, err := s.spare()
	if err != nil {
		return err
	}
	if err := s.touch(d); err != nil {
		return err
	}
	if err := s.touch(s.root); err != nil {
		return err
	}
	s.flush()
	s.forgetMoved(p)
	if err := unix.Renameat(d.fd, path.Base(p), s.root.fd, tmp); err != nil {
		return err
	}
	dest, err := s.into(p)
	if err != nil {
		return err
	}
	if err := s.merge(s.root.fd, tmp, p, dest.path); err != nil {
		return err
	}
	return nil
}

// into is dir for what moves.
func (s *settler) into(name string) (*dirRef, error) {
	d, err := s.dir(name)
	if err != nil {
		return nil, err
	}
	for p := d.path; p != "."; p = path.Dir(p) {
		if err := s.checkOver(p); err != nil {
			return nil, err
		}
	}
	// What was deleted there may have included what moves.
	if hidden, err := s.hidden(d.path); err != nil || hidden || s.done.Opaque {
		return nil, cmp.Or(err, ErrReapply)
	}
	return d, nil
}

// forgetMoved drops what is pending below dir; merge finds it out again.
func (s *settler) forgetMoved(dir string) {
	below := func(p string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }
	dropBelow(s.pending, below)
	dropBelow(s.whited, below)
}

// spare is a name that the root does not use.
func (s *settler) spare() (string, error) {
	for i := range 1000 {
		name := fmt.Sprintf("..moving-%d", i)
		if _, missing, err := lstat(s.root.fd, name); missing || err != nil {
			return name, err
		}
	}
	return "", errors.New("no free name for a temporary directory")
}
