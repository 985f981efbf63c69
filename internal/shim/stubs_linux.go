package shim

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/amphora-go/amphora/internal/rootdir"
	"golang.org/x/sys/unix"
)

// stubber makes mount points that the root lacks, in a layer of their own
// between the root's and the one that takes changes: so the latter never has
// them, whatever happens. Directories that lead to them are there with all
// that the root's have.
type stubber struct {
	view    *rootdir.Dir // the root; nil: an empty one
	dir     string       // of the layer
	made    bool         // the layer is needed
	like    []string     // directories that are as the root's
	parents []string     // those that only lead to mount points, of the root
	taken   []string     // targets so far, without links
}

// stubs returns the layers of the root with what its mounts need, and the
// directories of it that had to be made above mount points.
func (s *shim) stubs(lower []string) (with, parents []string, err error) {
	b := &stubber{dir: s.root.Path(s.c.ID, "stubs")}
	if len(lower) > 0 {
		if err := s.overlay(s.rootfs, lower, "", ""); err != nil {
			return nil, nil, err
		}
		defer s.unmountLast()
		f, err := os.OpenFile(s.rootfs, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return nil, nil, err
		}
		defer f.Close()
		b.view = rootdir.New(f)
	}
	for _, m := range s.cfg.OCI.Mounts {
		file := false
		if m.Type == "bind" {
			st, err := os.Stat(m.Source)
			file = err != nil || !st.IsDir() // the generated ones are written later
		}
		if err := b.stub(m.Destination, file); err != nil {
			return nil, nil, err
		}
	}
	if !b.made {
		return lower, nil, nil
	}
	return append([]string{b.dir}, lower...), b.parents, b.finish()
}

func (s *shim) unmountLast() {
	last := len(s.mounted) - 1
	unix.Unmount(s.mounted[last], unix.MNT_DETACH)
	s.mounted = s.mounted[:last]
}

// stub makes one mount point, unless it is there or in a mount before it.
func (b *stubber) stub(target string, file bool) error {
	real, err := b.resolve(target)
	if err != nil {
		return err
	}
	within := slices.ContainsFunc(b.taken, func(t string) bool { return real == t || strings.HasPrefix(real, t+"/") })
	b.taken = append(b.taken, real)
	if within || b.has(real) {
		return nil
	}
	if !b.made {
		b.made = true
		if err := b.mkdir("/"); err != nil {
			return err
		}
	}
	for i := 1; i < len(real); i++ {
		if real[i] != '/' {
			continue
		}
		if err := b.mkdir(real[:i]); err != nil {
			return err
		}
	}
	if !file {
		return mkdir(filepath.Join(b.dir, real))
	}
	f, err := os.OpenFile(filepath.Join(b.dir, real), os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

func (b *stubber) resolve(target string) (string, error) {
	if b.view == nil {
		return path.Clean("/" + target), nil
	}
	return b.view.Resolve(path.Clean("/"+target), true)
}

// has says whether the root has something of that name. What cannot be made
// because a file is in the way is the runtime's to report.
func (b *stubber) has(name string) bool {
	if b.view == nil {
		return name == "/"
	}
	_, err := b.view.Lstat(name)
	return !errors.Is(err, fs.ErrNotExist)
}

func (b *stubber) mkdir(name string) error {
	err := os.Mkdir(filepath.Join(b.dir, name), 0o755)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return err
	case b.view != nil && b.has(name):
		b.like = append(b.like, name)
	case name != "/":
		b.parents = append(b.parents, name)
	}
	return nil
}

// finish makes the directories what those of the root are, from the deepest
// up: making something in one changes its times.
func (b *stubber) finish() error {
	slices.SortStableFunc(b.like, func(x, y string) int { return strings.Count(y, "/") - strings.Count(x, "/") })
	for _, name := range b.like {
		if err := resemble(filepath.Join(b.dir, name), filepath.Join(b.view.Path(), name)); err != nil {
			return err
		}
	}
	return nil
}

// resemble gives a directory owner, attributes, mode and times of another.
func resemble(dir, other string) error {
	var st unix.Stat_t
	if err := unix.Stat(other, &st); err != nil {
		return &os.PathError{Op: "stat", Path: other, Err: err}
	}
	if err := os.Lchown(dir, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	list := make([]byte, 64<<10)
	n, err := unix.Listxattr(other, list)
	if err != nil && err != unix.ENOTSUP {
		return &os.PathError{Op: "listxattr", Path: other, Err: err}
	}
	for name := range strings.SplitSeq(string(list[:max(n, 0)]), "\x00") {
		if name == "" || strings.HasPrefix(name, "trusted.overlay.") {
			continue // what is said to overlays is said of that layer
		}
		value := make([]byte, 64<<10)
		n, err := unix.Getxattr(other, name, value)
		if err == nil {
			err = unix.Setxattr(dir, name, value[:n], 0)
		}
		if err != nil {
			return &os.PathError{Op: "setxattr " + name, Path: dir, Err: err}
		}
	}
	if err := unix.Chmod(dir, st.Mode&0o7777); err != nil {
		return &os.PathError{Op: "chmod", Path: dir, Err: err}
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, dir, []unix.Timespec{st.Atim, st.Mtim}, 0)
}

// keep has directories copied to the layer that the command makes: so does
// any change to them.
func (s *shim) keep(parents []string) error {
	for _, name := range parents {
		if err := unix.Chmod(filepath.Join(s.rootfs, name), 0o755); err != nil {
			return &os.PathError{Op: "chmod", Path: name, Err: err}
		}
	}
	return nil
}
