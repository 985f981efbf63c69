package archive

import "path"

// ChangeKind says what happened to a file.
type ChangeKind byte

const (
	Modified ChangeKind = 'C'
	Added    ChangeKind = 'A'
	Deleted  ChangeKind = 'D'
)

// Change is a difference between two trees.
type Change struct {
	Path string // from the root, without "/" before it
	Kind ChangeKind
}

// ChangesOptions tune Changes.
type ChangesOptions struct {
	// Overlay reads the tree as the top layer of an overlay: it holds only what
	// changed, and whiteouts. Otherwise it is a whole tree, which is compared
	// file by file: by kind, mode, owner, size and modification time.
	Overlay bool
	// Skip leaves out what it returns true for, and all below.
	Skip func(name string) bool
}

// Only makes Create write the changes of a whole tree: it skips what is not
// among them, but for the directories that lead there, and lists what was
// deleted.
func Only(changes []Change) (skip func(name string) bool, deleted []string) {
	keep := map[string]bool{}
	for _, ch := range changes {
		if ch.Kind == Deleted {
			deleted = append(deleted, ch.Path)
			continue
		}
		for p := ch.Path; p != "." && !keep[p]; p = path.Dir(p) {
			keep[p] = true
		}
	}
	return func(name string) bool { return !keep[path.Clean(name)] }, deleted
}
