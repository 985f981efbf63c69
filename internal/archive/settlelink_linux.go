package archive

import (
	"path"

	"golang.org/x/sys/unix"
)

// link replaces the placeholder of a hard link.
func (s *settler) link(l *ForeignLink) error {
	if l.Name == "" {
		if s.moves {
			return ErrReapply
		}
		_, n, err := s.target(l)
		if err == nil && !l.Meta.same(&n.st) {
			err = ErrReapply // the target changed its owner or mode
		}
		return err
	}
	name := l.Name
	if to, ok := s.moved[name]; ok {
		name = to
	}
	td, n, err := s.target(l)
	if err != nil {
		return err
	}
	d, err := s.dir(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	if err := s.remove(d, base); err != nil {
		return err
	}
	if err := s.foreign(l, td, n, d, base); err != nil {
		return err
	}
	return s.linkMeta(d, base, &l.Meta)
}

// target finds the lower object that l means and the directory of the layer
// where it belongs.
func (s *settler) target(l *ForeignLink) (*dirRef, *node, error) {
	if err := s.checkTarget(l.Target); err != nil {
		return nil, nil, err
	}
	td, _, err := s.find(path.Dir(l.Target))
	if err != nil {
		return nil, nil, err
	}
	if td == nil {
		return nil, nil, noTarget(l.Target)
	}
	n, err := s.lowers.lookup(join(td.path, path.Base(l.Target)))
	if err == nil && (n.kind == kindAbsent || n.kind == kindDir) {
		err = noTarget(l.Target)
	}
	return td, n, err
}

// foreign puts the target n, which belongs into td, in place. It is copied to
// its own place, too, when the layer has nothing there, so that both remain
// one file.
func (s *settler) foreign(l *ForeignLink, td *dirRef, n *node, d *dirRef, base string) error {
	tbase := path.Base(l.Target)
	target := join(td.path, tbase)
	name := join(d.path, base)
	if at, ok := s.copied[target]; ok {
		from, err := s.dir(path.Dir(at))
		if err != nil {
			return err
		}
		return unix.Linkat(from.fd, path.Base(at), d.fd, base, 0)
	}
	_, free, err := lstat(td.fd, tbase)
	if err != nil {
		return err
	}
	hidden, err := s.hidden(td.path)
	if err != nil {
		return err
	}
	if (target != l.Target || s.moves) && (!free || hidden) {
		return ErrReapply // was it there before the link?
	}
	s.copied[target] = name
	if !free || hidden {
		return s.copyLower(target, n, d, base)
	}
	if _, err = s.copyUp(target, n); err != nil {
		return err
	}
	if target == name {
		delete(s.upped, name)
		return nil
	}
	return unix.Linkat(td.fd, tbase, d.fd, base, 0)
}

// checkTarget refuses to guess when a directory on the way to a target stands
// where lower layers have a symbolic link: it may have come after the link.
func (s *settler) checkTarget(target string) error {
	for p := path.Dir(target); p != "."; p = path.Dir(p) {
		n, err := s.lowers.lookup(p)
		if err != nil {
			return err
		}
		if n.kind != kindLink {
			continue
		}
		if _, missing, err := lstat(s.root.fd, p); err == nil && !missing {
			return ErrReapply
		}
	}
	return nil
}

// same reports whether the metadata of a link says nothing new of its target.
func (m *Meta) same(st *unix.Stat_t) bool {
	was := metaOf(st)
	return was.Mode == m.Mode && was.UID == m.UID && was.GID == m.GID && was.Mtime.Equal(m.Mtime) && len(m.Xattrs) == 0
}
