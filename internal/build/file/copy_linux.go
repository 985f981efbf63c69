package file

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"

	rootpath "github.com/containerd/continuity/fs"
	"github.com/moby/patternmatcher"
	"github.com/tonistiigi/fsutil"
	fscopy "github.com/tonistiigi/fsutil/copy"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
)

func procPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

func (w *work) copy(a *op.Copy) error {
	u, err := w.owner(a.Owner)
	if err != nil {
		return err
	}
	if direct, err := w.direct(a); err != nil {
		return err
	} else if direct != nil {
		defer direct.Close()
		return w.copyFrom(a, u, direct, true)
	}
	source := w.tree
	if a.From == op.Scratch && within(a.Target, a.Source) {
		return fault.Invalid("%q cannot be copied into itself, to %q", a.Source, a.Target)
	}
	if a.From != op.Scratch {
		if source, err = w.input(a.From); err != nil {
			return err
		}
	}
	return w.copyFrom(a, u, source, false)
}

// within says whether a path is another one or lies below it.
func within(p, dir string) bool {
	p, dir = path.Join("/", p), path.Join("/", dir)
	return dir == "/" || p == dir || strings.HasPrefix(p, dir+"/")
}

// direct is the source as a bare directory, nil if it must be seen through an
// overlay. The kernel copies a file without moving its bytes only where both
// sides are overlays or neither is, so to a layer on scratch files are copied
// from the bare directory of another.
func (w *work) direct(a *op.Copy) (*os.File, error) {
	if len(w.base) > 0 || a.From == op.Scratch {
		return nil, nil
	}
	lowers, err := w.lowers(a.From)
	if err != nil || len(lowers) != 1 {
		return nil, err
	}
	return clone(lowers[0])
}

func (w *work) copyFrom(a *op.Copy, u *fscopy.User, source *os.File, bare bool) error {
	run := w.jail.do
	if bare {
		run = w.jail.blind
	}
	from, to := cleanPath(a.Source), cleanPath(a.Target)
	var matches []string
	err := run(source, func() (err error) {
		if err := reachable(a); err != nil {
			return err
		}
		if err := required(a); err != nil {
			return err
		}
		matches, err = expand(a, from)
		return err
	})
	if err != nil {
		return explain("copy", err)
	}
	for _, m := range matches {
		if a.Unpack {
			if done, err := w.unpack(a, u, run, source, m, to); err != nil || done {
				if err != nil {
					return err
				}
				continue
			}
		}
		err := run(source, func() error {
			if err := exists(a, m); err != nil {
				return err
			}
			made, err := w.parents(a, u, to)
			if err != nil {
				return err
			}
			if err := fscopy.Copy(w.ctx, ".", m, "/", to, func(c *fscopy.CopyInfo) { w.fill(c, a, u, bare) }); err != nil {
				return err
			}
			for _, dir := range made {
				if err := fscopy.Utimes(dir, w.when(a.Time)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return w.copyError(err)
		}
	}
	return nil
}

func (w *work) copyError(err error) error {
	if w.ctx.Err() != nil {
		return w.ctx.Err()
	}
	return explain("copy", err)
}

// fill says how to copy.
func (w *work) fill(c *fscopy.CopyInfo, a *op.Copy, u *fscopy.User, bare bool) {
	c.IncludePatterns, c.ExcludePatterns = a.Include, a.Exclude
	if u == nil && a.From >= 0 && a.From < len(w.opts.Rooted) && w.opts.Rooted[a.From] {
		u = &fscopy.User{}
	}
	c.Chown = chowner(u)
	c.Utime = w.stamp(a.Time)
	if a.ModeText != "" {
		c.ModeStr = a.ModeText
	} else if a.HasMode {
		c.Mode = &a.Mode
	}
	c.CopyDirContents = a.Contents
	c.FollowLinks = a.FollowLinks
	c.AlwaysReplaceExistingDestPaths = a.Replace
	// Attributes that the file system or the kernel does not take are left.
	c.XAttrErrorHandler = func(string, string, string, error) error { return nil }
	if bare {
		c.ChangeFunc = dropWhiteout
	}
}

// dropWhiteout removes what was copied if it is a whiteout. The lowest layer
// of an image should have none: there is nothing that it could hide.
func dropWhiteout(_ fsutil.ChangeKind, name string, fi os.FileInfo, _ error) error {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && fi.Mode()&os.ModeCharDevice != 0 && st.Rdev == 0 {
		return os.Remove(path.Join("/", name))
	}
	return nil
}

// parents makes the directories that lead to the target as the copy would do
// at once; the caller sets their times when all is in them.
func (w *work) parents(a *op.Copy, u *fscopy.User, to string) ([]string, error) {
	if dir, base := path.Split(to); base != "" && base != "." {
		to = dir
	}
	p, err := rootpath.RootPath("/", to)
	if err != nil {
		return nil, err
	}
	mode := fs.FileMode(0o755)
	if a.HasMode && a.ModeText == "" {
		mode = fs.FileMode(a.Mode)
	}
	return fscopy.MkdirAll(p, mode, chowner(u), w.when(a.Time))
}

// reachable checks that the directory of the target is there if the copy may
// not make it.
func reachable(a *op.Copy) error {
	if a.MakeTarget {
		return nil
	}
	p, err := rootpath.RootPath("/", path.Join("/", a.Target))
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path.Dir(p)); err != nil {
		return fault.Opaque(err)
	}
	return nil
}

// expand lists what the source's name means.
func expand(a *op.Copy, from string) ([]string, error) {
	if !a.Wildcards {
		return []string{from}, nil
	}
	matches, err := fscopy.ResolveWildcards(".", from, a.FollowLinks)
	if absent(err) {
		matches, err = nil, nil // the directory that the pattern begins with
	}
	if err != nil {
		return nil, err
	}
	if len(matches) == 0 && !a.AllowNoMatch {
		return nil, notFound(a.Source)
	}
	return matches, nil
}

// exists tells a missing source from everything else that can be missing.
func exists(a *op.Copy, name string) error {
	p, err := sourcePath(a, name)
	if err == nil {
		_, err = os.Lstat(p)
	}
	if absent(err) {
		return notFound(name)
	}
	return err
}

// absent says that there is no such file, also because something on the way to
// it is no directory.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) }

// sourcePath is where name leads in the tree that is read.
func sourcePath(a *op.Copy, name string) (string, error) {
	name = path.Join("/", name)
	if a.FollowLinks {
		return rootpath.RootPath(".", name)
	}
	dir, err := rootpath.RootPath(".", path.Dir(name))
	return path.Join(dir, path.Base(name)), err
}

// required looks for the paths that must be among what is copied. Below the
// source no link is followed, as when copying.
func required(a *op.Copy) error {
	if len(a.Required) == 0 {
		return nil
	}
	var excluded *patternmatcher.PatternMatcher
	if len(a.Exclude) > 0 {
		var err error
		if excluded, err = patternmatcher.New(a.Exclude); err != nil {
			return fault.Invalid("patterns of what is not to be copied: %w", err)
		}
	}
	top := path.Join("/", a.Source)
	for _, name := range a.Required {
		rest, ok := strings.CutPrefix(path.Join("/", name), strings.TrimSuffix(top, "/")+"/")
		if !ok && path.Join("/", name) != top {
			rest = path.Join("/", name)
		}
		found, err := present(a, top, rest)
		if err != nil {
			return err
		}
		if found && excluded != nil && rest != "" {
			out, err := excluded.MatchesOrParentMatches(rest)
			if err != nil {
				return fault.Invalid("patterns of what is not to be copied: %w", err)
			}
			found = !out
		}
		if !found {
			return notFound(name)
		}
	}
	return nil
}

// present says whether rest is below top without a link on the way.
func present(a *op.Copy, top, rest string) (bool, error) {
	p, err := sourcePath(a, top)
	if absent(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	parts := strings.FieldsFunc(rest, func(r rune) bool { return r == '/' })
	for i := -1; i < len(parts); i++ {
		if i >= 0 {
			p = path.Join(p, parts[i])
		}
		fi, err := os.Lstat(p)
		if absent(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if i < len(parts)-1 && !fi.IsDir() {
			return false, nil
		}
	}
	return true, nil
}

// cleanPath makes a path absolute and clean and keeps what its end says: "/"
// and "/." ask for a directory.
func cleanPath(s string) string {
	clean := path.Join("/", s)
	slash := strings.TrimSuffix(clean, "/") + "/"
	switch {
	case strings.HasSuffix(s, "/."):
		return slash + "."
	case strings.HasSuffix(s, "/"):
		return slash
	}
	return clean
}
