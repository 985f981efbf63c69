package archive

import (
	"context"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
)

// differ compares a tree, which may change meanwhile, with layers, which do
// not.
type differ struct {
	ctx  context.Context
	opts ChangesOptions
	base *view
	out  []Change
}

// Changes lists what the tree in dir adds to, changes in and deletes from
// layers, given topmost first, in the order of names, directories before what
// they hold. As with docker diff a directory counts as modified if something
// was added to it or deleted from it, or if its own attributes differ; the root
// is not listed. A directory that took the place of a deleted one is modified.
func Changes(ctx context.Context, dir string, lowers []string, opts *ChangesOptions) ([]Change, error) {
	c := &differ{ctx: ctx}
	if opts != nil {
		c.opts = *opts
	}
	root, err := openRetry(func() (int, error) {
		return unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, fault.Opaque(pathErr("open", dir, err))
	}
	defer unix.Close(root)
	if c.base, err = openView(lowers); err != nil {
		return nil, fault.Opaque(err)
	}
	defer c.base.close()
	if _, _, err := c.dir(root, "."); err != nil {
		return nil, fault.Opaque(err)
	}
	return c.out, nil
}

// dir compares a directory with the one in the layers, if there is one. The
// answer is whether something was added to it or deleted from it, and whether
// something in it was left out: then its time says nothing.
func (c *differ) dir(fd int, p string) (changed, skipped bool, err error) {
	if err := c.ctx.Err(); err != nil {
		return false, false, err
	}
	list, err := names(fd)
	if err != nil {
		return false, false, err
	}
	was, err := c.base.lookup(p)
	if err != nil {
		return false, false, err
	}
	slices.Sort(list)
	gone, err := c.unseen(fd, p, was, list)
	if err != nil {
		return false, false, err
	}
	slices.Sort(gone)
	all := append(list, gone...)
	slices.Sort(all)
	for _, name := range all {
		q := join(p, name)
		if c.opts.Skip != nil && c.opts.Skip(q) {
			skipped = true
			continue
		}
		kind := Deleted
		if _, is := slices.BinarySearch(gone, name); is {
			c.out = append(c.out, Change{q, Deleted})
		} else if kind, err = c.entry(fd, name, q); err != nil {
			return false, false, err
		}
		changed = changed || kind == Added || kind == Deleted
	}
	return changed, skipped, nil
}

// unseen are the names of a directory of the layers that the tree, whose names
// are sorted, has not.
func (c *differ) unseen(fd int, p string, was *node, list []string) ([]string, error) {
	if was.kind != kindDir {
		return nil, nil
	}
	if c.opts.Overlay {
		opaque, err := hasOpaque(procPath(fd, "."))
		if err != nil || !opaque {
			return nil, err
		}
	}
	before, err := c.base.names(p, was)
	return slices.DeleteFunc(before, func(n string) bool { _, is := slices.BinarySearch(list, n); return is }), err
}

func (c *differ) entry(dir int, name, q string) (ChangeKind, error) {
	st, missing, err := lstat(dir, name)
	if missing || err != nil {
		return 0, err
	}
	was, err := c.base.lookup(q)
	if err != nil {
		return 0, err
	}
	if c.opts.Overlay && isWhiteout(&st) {
		if was.kind == kindAbsent {
			return 0, nil
		}
		c.out = append(c.out, Change{q, Deleted})
		return Deleted, nil
	}
	if !isDir(&st) {
		kind := c.file(&st, was)
		if kind != 0 {
			c.out = append(c.out, Change{q, kind})
		}
		return kind, nil
	}
	kind := Added
	if was.kind != kindAbsent {
		kind = Modified
	}
	at := len(c.out)
	c.out = append(c.out, Change{q, kind})
	fd, err := openRetry(func() (int, error) {
		return unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if absent(err) {
		return kind, nil // it was replaced since it was looked at
	}
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	changed, skipped, err := c.dir(fd, q)
	if err != nil {
		return 0, err
	}
	if was.kind == kindDir && !changed && sameMeta(&st, &was.st, skipped) {
		c.out = slices.Delete(c.out, at, at+1)
		kind = 0
	}
	return kind, nil
}

// file says what became of what is no directory. What is in the top layer of
// an overlay was written to.
func (c *differ) file(st *unix.Stat_t, was *node) ChangeKind {
	switch {
	case was.kind == kindAbsent:
		return Added
	case !c.opts.Overlay && was.kind != kindDir && sameMeta(st, &was.st, false) && st.Size == was.st.Size && st.Rdev == was.st.Rdev:
		return 0
	}
	return Modified
}

func sameMeta(a, b *unix.Stat_t, anyTime bool) bool {
	return a.Mode == b.Mode && a.Uid == b.Uid && a.Gid == b.Gid && (anyTime || a.Mtim == b.Mtim)
}
