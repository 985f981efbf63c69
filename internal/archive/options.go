package archive

import (
	"errors"
	"time"
)

// Whiteouts says how Apply treats names that begin with ".wh.".
type Whiteouts int

const (
	// WhiteoutOverlay writes what overlayfs reads: a character device 0:0 for
	// a deleted name, and trusted.overlay.opaque=y on an opaque directory.
	WhiteoutOverlay Whiteouts = iota
	// WhiteoutUserOverlay is WhiteoutOverlay with user.overlay.opaque=y, for
	// overlays mounted with userxattr in a user namespace.
	WhiteoutUserOverlay
	// WhiteoutPlain deletes in place: for layers applied one after another
	// into the same tree. As the OCI image specification has it, what the
	// same layer brought stays.
	WhiteoutPlain
	// WhiteoutLiteral gives such names no meaning: for archives that are not
	// layers.
	WhiteoutLiteral
)

func (w Whiteouts) overlay() bool { return w == WhiteoutOverlay || w == WhiteoutUserOverlay }

// ApplyOptions tune Apply. The zero value translates an archive entry by entry
// into an overlay layer and asks for nothing about layers below.
type ApplyOptions struct {
	Whiteouts Whiteouts
	// Isolated records in Applied what the layer takes for granted of lower
	// layers, for Settle. It needs one of the overlay styles.
	Isolated bool
	// Lowers are the directories of the lower layers, topmost first, for an
	// exact application without Settle. It needs one of the overlay styles
	// and excludes Isolated.
	Lowers []string
	// Below is a directory of the tree, relative to its root, under which the
	// entries are placed, and which the entry "." does not describe. Symbolic
	// links that are met on the way, absolute ones too, still mean what they
	// mean in the whole tree. It needs WhiteoutLiteral.
	Below string
	// KeepKinds refuses to replace a directory by something else, and
	// something else by a directory.
	KeepKinds bool
	// MaxBytes bounds the content of all regular files, in bytes, holes
	// included. 0 means no bound.
	MaxBytes int64
	// MapID turns the owner of an entry into the owner on disk. Nil keeps it.
	MapID func(uid, gid int) (int, int, error)
	// RootImplied leaves directories that no entry describes to user and group
	// 0, whatever MapID says.
	RootImplied bool
}

// Applied is what Apply did. It survives JSON, so that Settle may run in
// another process.
type Applied struct {
	Entries int   `json:"entries"` // entries of the archive
	Bytes   int64 `json:"bytes"`   // content of regular files

	// Implicit are directories that entries pass through but the layer does
	// not describe, parents first; "." is the root.
	Implicit []string `json:"implicit,omitempty"`
	// Described are directories that were implicit until a later entry
	// described, replaced or deleted them.
	Described []string `json:"described,omitempty"`
	// Links are hard links whose target this layer lacks, in the order of the
	// archive. An empty file holds the place of each.
	Links []ForeignLink `json:"links,omitempty"`
	// WhiteoutDirs are directories in which something is deleted.
	WhiteoutDirs []string `json:"whiteoutDirs,omitempty"`
	// Opaque is set when the layer hides the whole root of lower layers.
	Opaque bool `json:"opaque,omitempty"`
	// Ordered is set when the order of entries matters, should an implicit
	// directory turn out to be a symbolic link in a lower layer.
	Ordered bool `json:"ordered,omitempty"`
	// Again is set when only Apply with Lowers can tell what the layer means.
	Again bool `json:"again,omitempty"`

	// SkippedXattrs names attributes that the file system or the user
	// namespace does not allow: at most 16 of them, each once.
	SkippedXattrs []string `json:"skippedXattrs,omitempty"`

	Whiteouts Whiteouts `json:"whiteouts,omitempty"`
}

// ForeignLink is a hard link to a file of a lower layer.
type ForeignLink struct {
	Name   string `json:"name,omitempty"` // empty when a later entry replaced it
	Target string `json:"target"`
	Meta   Meta   `json:"meta"`
}

// Meta is what an archive says of an entry besides its content.
type Meta struct {
	Mode         uint32            `json:"mode"` // permission and setuid, setgid, sticky bits
	UID          int               `json:"uid"`
	GID          int               `json:"gid"`
	Atime, Mtime time.Time         `json:",omitzero"`
	Xattrs       map[string]string `json:"xattrs,omitempty"`
}

// ErrReapply is returned by Settle when what the layer means over its lowers
// depends on the order of its entries. The caller empties the directory and
// calls Apply with ApplyOptions.Lowers.
var ErrReapply = errors.New("layer must be applied again with its lower layers in sight")
