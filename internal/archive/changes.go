package archive

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
