package archive

import (
	"archive/tar"
	"path"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
)

// clean turns a name of an archive into one relative to the root, "." for the
// root itself.
func clean(name string) (string, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return "", fault.Invalid("name contains a NUL byte")
	}
	c := path.Clean("/" + name)[1:]
	if len(c) > pathMax {
		return "", fault.Invalid("name is longer than %d bytes", pathMax)
	}
	if c == "" {
		return ".", nil
	}
	return c, nil
}

// below is where a cleaned name of the archive goes.
func (a *applier) below(name string) (string, error) {
	if a.opts.Below == "" {
		return name, nil
	}
	return clean(a.opts.Below + "/" + name)
}

func (a *applier) entry(h *tar.Header) error {
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo,
		tar.TypeGNUSparse, tar.TypeCont:
	default:
		return fault.Invalid("unknown type of entry %q", h.Typeflag)
	}
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	if a.style != WhiteoutLiteral && strings.Contains(name, ".wh.") {
		if done, err := a.special(name); done || err != nil {
			return err
		}
	}
	m, err := a.meta(h)
	if err != nil {
		return err
	}
	if a.opts.Below != "" {
		if name == "." {
			return nil
		}
		if name, err = a.below(name); err != nil {
			return err
		}
	}
	if name == "." {
		if h.Typeflag != tar.TypeDir {
			return fault.Invalid("the root can only be a directory")
		}
		a.describe(".")
		a.pending["."] = &dirMeta{Meta: *m}
		return nil
	}
	parent, base := ".", name
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		parent, base = name[:i], name[i+1:]
	}
	d, err := a.dir(parent)
	if err != nil {
		return err
	}
	return a.place(d, base, h, m)
}

// special handles the reserved names of layers.
func (a *applier) special(name string) (done bool, err error) {
	const (
		prefix = ".wh."
		meta   = ".wh..wh."
	)
	parent, base := path.Split(name)
	if parent = strings.TrimSuffix(parent, "/"); parent == "" {
		parent = "."
	}
	if top, _, _ := strings.Cut(name, "/"); strings.HasPrefix(top, meta) && name != meta+".opq" {
		return true, nil // book-keeping of aufs, which Docker leaves out as well
	}
	for c := range strings.SplitSeq(parent, "/") {
		if strings.HasPrefix(c, prefix) {
			return true, fault.Invalid("directory name %q is reserved for deleted files", c)
		}
	}
	what, ok := strings.CutPrefix(base, prefix)
	if !ok {
		return false, nil
	}
	if base != meta+".opq" && (what == "" || what == "." || what == ".." || strings.HasPrefix(what, prefix)) {
		return true, fault.Invalid("%q names nothing that could be deleted", base)
	}
	d, err := a.dir(parent)
	if err != nil {
		return true, err
	}
	if base == meta+".opq" {
		return true, a.makeOpaque(d)
	}
	return true, a.whiteout(d, what)
}

// meta checks and translates what the header says.
func (a *applier) meta(h *tar.Header) (*Meta, error) {
	m := &Meta{Mode: uint32(h.Mode) & permBits, UID: h.Uid, GID: h.Gid, Atime: h.AccessTime, Mtime: h.ModTime}
	if a.opts.MapID != nil {
		var err error
		if m.UID, m.GID, err = a.opts.MapID(h.Uid, h.Gid); err != nil {
			return nil, err
		}
	}
	// The largest 32-bit id means "leave as it is" to the kernel.
	if m.UID < 0 || m.GID < 0 || int64(m.UID) >= 1<<32-1 || int64(m.GID) >= 1<<32-1 {
		return nil, fault.Invalid("user %d or group %d is out of range", m.UID, m.GID)
	}
	for key, val := range h.PAXRecords {
		key, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok || overlayXattr(key) {
			continue
		}
		if m.Xattrs == nil {
			m.Xattrs = map[string]string{}
		}
		m.Xattrs[key] = val
	}
	return m, nil
}
