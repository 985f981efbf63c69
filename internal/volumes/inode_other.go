//go:build !unix

package volumes

import "io/fs"

type inode struct{}

func sharedInode(fs.FileInfo) (inode, bool) { return inode{}, false }
