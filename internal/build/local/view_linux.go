package local

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/overlay"
	"github.com/amphora-go/amphora/internal/store"
)

// View returns directories, topmost first, that show the context as layers,
// for as long as l exists: the directory itself, and above it, if needed, one in l's
// working directory that hides what does not belong to the context. Where the
// directory cannot be a layer, it is a copy of what belongs to the context.
//
// The view is live: whether what was read from it is what Scan saw, Unchanged
// tells afterwards. Files show with their owners on the host: a copy from the
// view is to give them to 0:0 unless told otherwise, and see Rooted.
func (m *Manifest) View(l *store.Lease) (lowers []string, err error) {
	dir, err := m.layer(l)
	if err != nil {
		return nil, err
	}
	files, err := m.copier(dir, false)
	if err != nil {
		return nil, err
	}
	defer files.close()
	top := &upper{dir: dir, files: files, needed: m.mode&0o7777 != 0o755 || m.owned}
	if err := top.fill(m.root, "."); err != nil {
		return nil, fault.Opaque(err)
	}
	o, err := overlay.Open(overlay.Layers{Lower: []string{dir, m.path}})
	if err != nil { // not a file system that can be a layer
		return m.copied(l)
	}
	o.Close()
	if top.needed {
		return []string{dir, m.path}, nil
	}
	return []string{m.path}, nil
}

// layer makes a directory for a layer.
func (m *Manifest) layer(l *store.Lease) (string, error) {
	work, err := l.Dir()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(work, "context-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	return dir, fault.Opaque(err)
}

// Rooted is View for who does not copy but mounts: a tree in which all belongs
// to 0:0. That is the view itself, if all does on the host and it can be a
// layer, else a copy: one for each lease.
func (m *Manifest) Rooted(l *store.Lease) (lowers []string, err error) {
	if foreign(m.root.kids) {
		return m.copied(l)
	}
	return m.View(l)
}

// foreign says whether something belongs to anybody but 0:0.
func foreign(list []*entry) bool {
	for _, e := range list {
		if e.uid != 0 || e.gid != 0 || foreign(e.kids) {
			return true
		}
	}
	return false
}

func (m *Manifest) copied(l *store.Lease) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if dir, ok := m.copies[l]; ok {
		return []string{dir}, nil
	}
	dir, err := m.layer(l)
	if err != nil {
		return nil, err
	}
	c, err := m.copier(dir, true)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := c.kids(m.root, "."); err != nil {
		return nil, errors.Join(fault.Opaque(err), os.RemoveAll(dir))
	}
	if m.copies == nil {
		m.copies = map[*store.Lease]string{}
	}
	m.copies[l] = dir
	return []string{dir}, nil
}

// upper makes the layer that hides.
type upper struct {
	dir      string
	files    *copier
	needed   bool
	whiteout string // one that can be linked
}

// differs says whether the view of a directory is not just the directory.
func differs(e *entry) bool {
	if len(e.hidden) > 0 || e.mount {
		return true
	}
	for _, k := range e.kids {
		if k.mount || k.dir() && differs(k) {
			return true
		}
	}
	return false
}

func (u *upper) fill(e *entry, rel string) error {
	for _, name := range e.hidden {
		u.needed = true
		if err := u.hide(filepath.Join(u.dir, rel, name)); err != nil {
			return err
		}
	}
	for _, k := range e.kids {
		sub := filepath.Join(rel, k.name)
		if k.mount {
			if err := u.mounted(k, sub); err != nil {
				return err
			}
			continue
		}
		if !k.dir() || !differs(k) {
			continue
		}
		if err := os.Mkdir(filepath.Join(u.dir, sub), 0o700); err != nil {
			return err
		}
		if err := u.fill(k, sub); err != nil {
			return err
		}
		if err := u.files.attributes(k, filepath.Join(u.dir, sub)); err != nil {
			return err
		}
	}
	return nil
}

// mounted copies what is mounted in the context: layers do not show mounts.
func (u *upper) mounted(k *entry, rel string) error {
	u.needed = true
	if err := u.files.entry(k, rel); err != nil || !k.dir() {
		return err
	}
	name := filepath.Join(u.dir, rel)
	if err := unix.Lsetxattr(name, "trusted.overlay.opaque", []byte("y"), 0); err != nil {
		return &os.PathError{Op: "setxattr trusted.overlay.opaque", Path: name, Err: err}
	}
	return nil
}

// hide makes a whiteout. They are all one file, which is faster.
func (u *upper) hide(name string) error {
	if u.whiteout != "" && os.Link(u.whiteout, name) == nil {
		return nil
	}
	if err := unix.Mknod(name, unix.S_IFCHR, 0); err != nil {
		if errors.Is(err, unix.EPERM) {
			return fault.Privilege("hiding files of a build context needs root: run as root")
		}
		return &os.PathError{Op: "mknod", Path: name, Err: err}
	}
	u.whiteout = name
	return nil
}
