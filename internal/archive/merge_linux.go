package archive

import (
	"errors"

	"golang.org/x/sys/unix"
)

// merge moves the children of directory base of dir, which stood at from, into
// the directory to, and removes it. Where the layer has something already, the
// order of entries would decide.
func (s *settler) merge(dir int, base, from, to string) error {
	fd, err := openRetry(func() (int, error) {
		return unix.Openat(dir, base, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
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
		s.reap()
		st, _, err := lstat(fd, n)
		if err != nil {
			return err
		}
		p, dest := join(from, n), join(to, n)
		if !isDir(&st) {
			if isWhiteout(&st) {
				s.whited[to] = true
			}
			err = s.mergeFile(fd, n, p, to)
		} else if s.implicit[p] {
			err = s.mergeImplicit(fd, n, p, dest)
		} else {
			err = s.mergeDir(fd, n, p, to, &st)
		}
		if err != nil {
			return err
		}
	}
	return unix.Unlinkat(dir, base, unix.AT_REMOVEDIR)
}

func (s *settler) mergeFile(fd int, n, from, to string) error {
	d, err := s.dir(to)
	if err != nil {
		return err
	}
	if err := s.touch(d); err != nil {
		return err
	}
	err = unix.Renameat2(fd, n, d.fd, n, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		return ErrReapply
	}
	s.moved[from] = join(to, n)
	return err
}

// mergeImplicit resolves the directory anew: lower layers may have a link
// there, too.
func (s *settler) mergeImplicit(fd int, n, from, dest string) error {
	d, err := s.into(dest)
	if err != nil {
		return err
	}
	return s.merge(fd, n, from, d.path)
}

// mergeDir moves a directory that an entry describes.
func (s *settler) mergeDir(fd int, n, from, to string, st *unix.Stat_t) error {
	d, err := s.dir(to)
	if err != nil {
		return err
	}
	name := procPath(fd, n)
	attrs, err := readXattrs(name)
	if err != nil {
		return err
	}
	opaque, err := hasOpaque(name)
	if err != nil {
		return err
	}
	if err := s.mkdir(d, n); errors.Is(err, unix.EEXIST) {
		return ErrReapply
	} else if err != nil {
		return err
	}
	p := join(d.path, n)
	m := &dirMeta{Meta: metaOf(st)}
	m.Xattrs = attrs
	s.pending[p] = m
	if opaque {
		next, err := s.mustChild(d, n, p)
		if err != nil {
			return err
		}
		if err := s.setOpaque(next); err != nil {
			return err
		}
	}
	return s.merge(fd, n, from, p)
}
