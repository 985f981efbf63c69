//go:build unix

package volumes

import (
	"io/fs"
	"syscall"
)

type inode struct{ dev, ino uint64 }

// sharedInode identifies a file that has several links.
func sharedInode(info fs.FileInfo) (inode, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Nlink < 2 {
		return inode{}, false
	}
	return inode{uint64(st.Dev), uint64(st.Ino)}, true
}
