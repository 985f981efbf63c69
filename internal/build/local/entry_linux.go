package local

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/build/tree"
)

// stamp tells a file, and that it is what it was: the kernel changes the time
// of the last change (ctime) with each change of content or attributes.
type stamp struct {
	dev, ino, size uint64
	mtime, ctime   int64 // ns since 1970
	mode           uint32
}

// record is what is remembered of a name.
type record struct {
	name   string
	stamp  stamp
	sum    [sha256.Size]byte // of a regular file's content
	link   string            // target of a symbolic link
	xattrs string            // as pack has them
}

// entry is a name of a context.
type entry struct {
	record
	uid, gid uint32
	rdev     uint64
	linked   bool // a file that may have other names
	mount    bool // something else is mounted here
	shown    bool // matches itself; else it is there for what is below
	gone     bool // went away while it was looked at
	kids     []*entry
	hidden   []string // names in this directory that do not belong to the context, sorted

	hash  [sha256.Size]byte // of all that counts of it and below it, save hard links and its name
	links bool              // it or something below it is linked
}

func (e *entry) kind() uint32 { return e.stamp.mode & unix.S_IFMT }
func (e *entry) dir() bool    { return e.kind() == unix.S_IFDIR }
func (e *entry) regular() bool {
	return e.kind() == unix.S_IFREG || e.kind() == unix.S_IFSOCK // an empty one
}

// mode is the one that builds see.
func (e *entry) mode() uint32 {
	if e.kind() == unix.S_IFSOCK {
		return e.stamp.mode&^unix.S_IFMT | unix.S_IFREG
	}
	return e.stamp.mode
}

// child is the entry of that name, or nil.
func (e *entry) child(name string) *entry {
	i, ok := slices.BinarySearchFunc(e.kids, name, func(k *entry, name string) int {
		switch {
		case k.name < name:
			return -1
		case k.name > name:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return e.kids[i]
}

var emptySum = sha256.Sum256(nil)

// seal computes hashes from the leaves up.
func (e *entry) seal(buf []byte) []byte {
	e.links = e.linked
	for _, k := range e.kids {
		buf = k.seal(buf)
		e.links = e.links || k.links
	}
	buf = e.append(buf[:0])
	buf = number(buf, uint64(len(e.kids)))
	for _, k := range e.kids {
		buf = text(buf, k.name)
		buf = append(buf, k.hash[:]...)
	}
	e.hash = sha256.Sum256(buf)
	return buf
}

// append appends what counts of the entry alone.
func (e *entry) append(buf []byte) []byte {
	buf = number(buf, uint64(e.mode()))
	buf = number(buf, e.rdev)
	buf = text(buf, e.link)
	buf = text(buf, e.xattrs)
	return append(buf, e.sum[:]...)
}

// number and text make an encoding that can be read in one way only.
func number(buf []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(buf, v) }

func text(buf []byte, s string) []byte { return append(number(buf, uint64(len(s))), s...) }

func pack(list []tree.Attr) string {
	var buf []byte
	for _, a := range list {
		buf = text(text(buf, a.Key), a.Value)
	}
	return string(buf)
}

func unpack(s string) []tree.Attr {
	var list []tree.Attr
	next := func() (part string) {
		n := binary.BigEndian.Uint64([]byte(s[:8]))
		part, s = s[8:8+n], s[8+n:]
		return part
	}
	for s != "" {
		key := next()
		list = append(list, tree.Attr{Key: key, Value: next()})
	}
	return list
}
