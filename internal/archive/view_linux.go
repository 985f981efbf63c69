package archive

import (
	"path"

	"golang.org/x/sys/unix"
)

// kind of a name in the merged view.
type kind int

const (
	kindAbsent kind = iota
	kindDir
	kindLink
	kindOther
)

// view is what overlayfs would show of a stack of layers, without a mount.
// Layers do not change while they are looked at. It is for one goroutine.
type view struct {
	roots []int            // O_PATH, topmost first
	nodes map[string]*node // by path; also what is absent
}

// node is a name of the view.
type node struct {
	kind   kind
	layers []int // indices of the layers that hold it: several for a merged directory
	st     unix.Stat_t
	target string // of a link
}

var absentNode = &node{}

func openView(dirs []string) (*view, error) {
	v := &view{nodes: map[string]*node{}}
	root := &node{kind: kindAbsent}
	for i, d := range dirs {
		fd, err := openRetry(func() (int, error) {
			return unix.Open(d, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		})
		if err != nil {
			v.close()
			return nil, pathErr("open lower layer", d, err)
		}
		v.roots = append(v.roots, fd)
		root.kind, root.layers = kindDir, append(root.layers, i)
	}
	if len(dirs) > 0 {
		if err := unix.Fstat(v.roots[0], &root.st); err != nil {
			v.close()
			return nil, pathErr("stat lower layer", dirs[0], err)
		}
	}
	v.nodes["."] = root
	return v, nil
}

func (v *view) close() {
	for _, fd := range v.roots {
		unix.Close(fd)
	}
	v.roots = nil
}

// lookup returns what the view has at p, which is clean and is not resolved:
// below a symbolic link nothing exists. The node is never nil.
func (v *view) lookup(p string) (*node, error) {
	if n := v.nodes[p]; n != nil {
		return n, nil
	}
	up, err := v.lookup(path.Dir(p))
	if err != nil {
		return absentNode, err
	}
	n := absentNode
	if up.kind == kindDir {
		if n, err = v.stack(p, up.layers); err != nil {
			return absentNode, err
		}
	}
	v.nodes[p] = n
	return n, nil
}

// stack merges p over the layers that have its parent, as overlayfs does: the
// topmost object counts, directories merge until something else, a whiteout or
// an opaque one ends it.
func (v *view) stack(p string, layers []int) (*node, error) {
	n := &node{}
	for i, l := range layers {
		st, missing, err := lstat(v.roots[l], p)
		if err != nil {
			return nil, pathErr("stat in a lower layer", p, err)
		}
		if missing {
			continue
		}
		if isWhiteout(&st) || (n.kind == kindDir && !isDir(&st)) {
			break
		}
		n.layers = append(n.layers, l)
		if n.kind == kindAbsent {
			n.st = st
		}
		if !isDir(&st) {
			return v.leaf(p, n)
		}
		n.kind = kindDir
		if i == len(layers)-1 {
			break
		}
		opaque, err := hasOpaque(procPath(v.roots[l], p))
		if err != nil {
			return nil, pathErr("getxattr in a lower layer", p, err)
		}
		if opaque {
			break
		}
	}
	if n.kind == kindAbsent {
		return absentNode, nil
	}
	return n, nil
}

func (v *view) leaf(p string, n *node) (*node, error) {
	n.kind = kindOther
	if n.st.Mode&unix.S_IFMT == unix.S_IFLNK {
		n.kind = kindLink
		var err error
		if n.target, err = readlinkat(v.roots[n.layers[0]], p); err != nil {
			return nil, pathErr("readlink in a lower layer", p, err)
		}
	}
	return n, nil
}

// meta is what a directory or file of the view carries besides its content.
func (v *view) meta(p string, n *node) (*dirMeta, error) {
	x, err := readXattrs(procPath(v.roots[n.layers[0]], p))
	if err != nil {
		return nil, pathErr("listxattr in a lower layer", p, err)
	}
	m := &dirMeta{Meta: metaOf(&n.st)}
	m.Xattrs = x
	return m, nil
}

// names lists a directory of the view.
func (v *view) names(p string, n *node) ([]string, error) {
	var list []string
	seen := map[string]bool{}
	for _, l := range n.layers {
		fd, err := openat2(v.roots[l], p, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
		if err != nil {
			return nil, pathErr("open in a lower layer", p, err)
		}
		got, err := names(fd)
		unix.Close(fd)
		if err != nil {
			return nil, pathErr("list in a lower layer", p, err)
		}
		for _, name := range got {
			if seen[name] {
				continue
			}
			seen[name] = true
			c, err := v.lookup(join(p, name))
			if err != nil {
				return nil, err
			}
			if c.kind != kindAbsent {
				list = append(list, name)
			}
		}
	}
	return list, nil
}
