package archive

import (
	"errors"
	"path"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
)

// placeLink makes a hard link. The last component of the target is not
// followed: a link to a symbolic link is one.
func (a *applier) placeLink(d *dirRef, base, target string, m *Meta) error {
	name, err := clean(target)
	if err != nil || name == "." {
		return fault.Invalid("hard link to %.256q", target)
	}
	if name, err = a.below(name); err != nil {
		return err
	}
	parent, tbase := path.Split(name)
	td, missing, err := a.find(path.Clean(parent))
	if err != nil {
		return err
	}
	if td == nil {
		return a.placeForeign(d, base, path.Join(missing, tbase), m)
	}
	st, absent, err := lstat(td.fd, tbase)
	if err != nil {
		return err
	}
	switch {
	case absent:
		return a.placeForeign(d, base, join(td.path, tbase), m)
	case isDir(&st): // or a symbolic link of a lower layer, if implicit
		return unsure{fault.Invalid("hard link to the directory %.256q", target)}
	case isWhiteout(&st) && a.style.overlay():
		return noTarget(target)
	}
	return a.linkTo(d, base, td, tbase, m)
}

func noTarget(target string) error {
	return unsure{fault.Invalid("hard link to %.256q, which does not exist", target)}
}

// linkTo links to something that the tree has.
func (a *applier) linkTo(d *dirRef, base string, td *dirRef, tbase string, m *Meta) error {
	placeholder, waiting := a.links[join(td.path, tbase)]
	err := unix.Linkat(td.fd, tbase, d.fd, base, 0)
	if errors.Is(err, unix.EEXIST) {
		if td.path == d.path && tbase == base {
			err = nil // a link to itself, which may still change an owner or mode
		} else {
			if err := a.remove(d, base); err != nil {
				return err
			}
			err = unix.Linkat(td.fd, tbase, d.fd, base, 0)
		}
	}
	if errors.Is(err, unix.ENOENT) {
		return fault.Invalid("hard link replaces a directory that holds its target")
	}
	if err != nil {
		return err
	}
	p := join(d.path, base)
	a.mark(d, base)
	delete(a.upped, p)
	if waiting {
		a.await(p, a.foreign[placeholder].Target, m)
		return nil
	}
	return a.linkMeta(d, base, m)
}

// linkMeta gives the file what the header of a further link says, where that
// differs: it does when a layer changes an owner and keeps the content.
func (t *tree) linkMeta(d *dirRef, base string, m *Meta) error {
	st, _, err := lstat(d.fd, base)
	if err != nil {
		return err
	}
	was := metaOf(&st)
	chown := was.UID != m.UID || was.GID != m.GID
	if chown {
		if err := unix.Fchownat(d.fd, base, m.UID, m.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return chownErr(err, m)
		}
	}
	if len(m.Xattrs) > 0 {
		if err := t.setXattrs(procPath(d.fd, base), m.Xattrs); err != nil {
			return err
		}
	}
	format := st.Mode & unix.S_IFMT
	if format != unix.S_IFLNK && (chown || was.Mode != m.Mode) {
		if err := chmodAt(d, base, m.Mode, format); err != nil {
			return err
		}
	}
	if was.Mtime.Equal(m.Mtime) {
		return nil
	}
	ts := m.times()
	return unix.UtimesNanoAt(d.fd, base, ts[:], unix.AT_SYMLINK_NOFOLLOW)
}

// placeForeign makes a hard link to target, which the tree lacks: canonical as
// far as the tree goes. Lower layers may have it.
func (a *applier) placeForeign(d *dirRef, base, target string, m *Meta) error {
	hidden, err := a.hidden(path.Dir(target))
	if err != nil {
		return err
	}
	switch {
	case hidden:
		return noTarget(target)
	case a.lowers != nil: // find copied up the directories that exist
		n, err := a.lowers.lookup(target)
		if err != nil {
			return err
		}
		if n.kind == kindAbsent {
			return noTarget(target)
		}
		td, err := a.copyUp(target, n)
		if err != nil {
			return err
		}
		return a.linkTo(d, base, td, path.Base(target), m)
	case !a.isolated:
		return noTarget(target)
	}
	p := join(d.path, base)
	err = a.fresh(d, base, func() error {
		fd, err := unix.Openat(d.fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	})
	if err != nil {
		return err
	}
	a.await(p, target, m)
	return nil
}

// await notes that Settle is to put target in the place of the placeholder p.
func (a *applier) await(p, target string, m *Meta) {
	a.links[p] = len(a.foreign)
	a.foreign = append(a.foreign, ForeignLink{Name: p, Target: target, Meta: *m})
}
