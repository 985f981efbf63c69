package archive

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
)

// whiteout deletes base of the lower layers.
func (t *tree) whiteout(d *dirRef, base string) error {
	if t.style == WhiteoutPlain {
		return t.whiteoutPlain(d, base)
	}
	return t.hide(d, base, true)
}

// hide makes a whiteout of base unless the layer brought it: then only what
// is below lower layers' goes. With bare, directories that hold nothing but
// deletions are no exception.
func (t *tree) hide(d *dirRef, base string, bare bool) error {
	if err := t.touch(d); err != nil {
		return err
	}
	t.whited[d.path] = true
	err := mkWhiteout(d, base)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	p := join(d.path, base)
	if t.upped[p] {
		return t.replaceByWhiteout(d, base)
	}
	st, _, err := lstat(d.fd, base)
	if err != nil || !isDir(&st) {
		return err
	}
	if bare {
		only, err := t.bare(d.fd, base, p)
		if err != nil {
			return err
		}
		if only {
			return t.replaceByWhiteout(d, base)
		}
	}
	next, err := t.mustChild(d, base, p)
	if err != nil {
		return err
	}
	if bare {
		return t.makeOpaque(next)
	}
	return t.setOpaque(next)
}

func (t *tree) replaceByWhiteout(d *dirRef, base string) error {
	if err := t.remove(d, base); err != nil {
		return err
	}
	return mkWhiteout(d, base)
}

func mkWhiteout(d *dirRef, base string) error {
	err := unix.Mknodat(d.fd, base, unix.S_IFCHR, 0)
	if errors.Is(err, unix.EPERM) {
		return fault.Privilege("a whiteout is a character device 0:0, which this user may not make here: run as root, or in a user namespace on Linux 5.8 or newer")
	}
	return err
}

// bare reports whether the directory base of dir, at p, was only passed on
// the way to names that the layer deletes.
func (t *tree) bare(dir int, base, p string) (bool, error) {
	if !t.implied[p] {
		return false, nil
	}
	bare := true
	err := eachChild(dir, base, func(fd int, n string, st *unix.Stat_t) (err error) {
		if c := join(p, n); bare && !isWhiteout(st) && !t.upped[c] {
			bare = false
			if isDir(st) {
				bare, err = t.bare(fd, n, c)
			}
		}
		return err
	})
	return bare, err
}

// clearBare removes bare directories, and copies of lower files, below base of
// dir.
func (t *tree) clearBare(dir int, base, p string) error {
	return eachChild(dir, base, func(fd int, n string, st *unix.Stat_t) error {
		c := join(p, n)
		bare := t.upped[c]
		if !bare && !isDir(st) {
			return nil
		}
		if !bare {
			var err error
			if bare, err = t.bare(fd, n, c); err != nil {
				return err
			}
		}
		if bare {
			return t.remove(&dirRef{fd: fd, path: p}, n)
		}
		return t.clearBare(fd, n, c)
	})
}

// eachChild calls f for each object in the directory base of dir.
func eachChild(dir int, base string, f func(fd int, name string, st *unix.Stat_t) error) error {
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
		st, missing, err := lstat(fd, n)
		if err == nil && !missing {
			err = f(fd, n, &st)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) whiteoutPlain(d *dirRef, base string) error {
	st, missing, err := lstat(d.fd, base)
	if err != nil || missing {
		return err
	}
	if !t.made[join(d.path, base)] {
		return t.remove(d, base)
	}
	if !isDir(&st) {
		return nil
	}
	next, err := t.mustChild(d, base, join(d.path, base))
	if err != nil {
		return err
	}
	return t.clear(next)
}

// prune removes whiteouts from directories that no lower layer shows through.
// They hide nothing, and overlayfs lists the names of such, as files that
// cannot be opened, where it has nothing to merge.
func (t *tree) prune() error {
	for p := range t.whited {
		t.reap()
		lower, err := t.lowers.lookup(p)
		if err != nil {
			return err
		}
		hidden, err := t.hidden(p)
		if err != nil {
			return err
		}
		if lower.kind == kindDir && !hidden || p == "." && len(t.lowers.roots) > 0 {
			continue
		}
		d, err := t.dir(p)
		if err != nil {
			return err
		}
		if err := t.pruneDir(d); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) pruneDir(d *dirRef) error {
	return eachChild(d.fd, ".", func(_ int, n string, st *unix.Stat_t) error {
		if !isWhiteout(st) {
			return nil
		}
		return t.remove(d, n)
	})
}

// makeOpaque hides what lower layers have in d.
func (t *tree) makeOpaque(d *dirRef) error {
	if t.style == WhiteoutPlain {
		return t.clear(d)
	}
	if len(t.whited)+len(t.opaque)+len(t.upped) > 0 {
		if err := t.clearBare(d.fd, ".", d.path); err != nil {
			return err
		}
	}
	return t.setOpaque(d)
}

// clear deletes all in d that the archive did not bring.
func (t *tree) clear(d *dirRef) error {
	return eachChild(d.fd, ".", func(_ int, n string, st *unix.Stat_t) error {
		p := join(d.path, n)
		if !t.made[p] {
			return t.remove(d, n)
		}
		if !isDir(st) {
			return nil
		}
		// Not through the cache, whose descriptors live until the next entry.
		fd, err := openRetry(func() (int, error) {
			return unix.Openat(d.fd, n, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		})
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return t.clear(&dirRef{fd: fd, path: p})
	})
}

func (t *tree) opaqueXattr() string {
	if t.style == WhiteoutUserOverlay {
		return "user.overlay.opaque"
	}
	return "trusted.overlay.opaque"
}

// setOpaque marks d for overlayfs. The mark of the root is kept in t.opaque
// alone: overlayfs always merges roots, so hideRoot does it name by name.
func (t *tree) setOpaque(d *dirRef) error {
	if t.opaque[d.path] {
		return nil
	}
	t.opaque[d.path] = true
	for p := range t.implicit {
		if p != "." && (p == d.path || d.path == "." || strings.HasPrefix(p, d.path+"/")) {
			t.ordered = true
			break
		}
	}
	if d.path == "." {
		return nil
	}
	err := unix.Setxattr(procPath(d.fd), t.opaqueXattr(), []byte("y"), 0)
	switch {
	case errors.Is(err, unix.EPERM):
		return fault.Privilege("setting %s needs CAP_SYS_ADMIN: run as root", t.opaqueXattr())
	case errors.Is(err, unix.EOPNOTSUPP):
		return fault.Unsupported("the file system of the store has no extended attribute %s, which overlay layers need", t.opaqueXattr())
	}
	return err
}

func (t *tree) opaqueOnDisk(p string) (bool, error) {
	return hasOpaque(procPath(t.root.fd, p))
}

// hasOpaque looks for either style: a layer may have been unpacked by another
// user of the store.
func hasOpaque(name string) (bool, error) {
	var v [1]byte
	for _, x := range [...]string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		n, err := unix.Lgetxattr(name, x, v[:])
		switch {
		case err == nil && n == 1 && v[0] == 'y':
			return true, nil
		case err == nil, errors.Is(err, unix.ENODATA), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ERANGE), errors.Is(err, unix.ENOENT):
		default:
			return false, err
		}
	}
	return false, nil
}
