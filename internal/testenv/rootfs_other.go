//go:build !linux

package testenv

import (
	"io/fs"
	"os"
)

// mknod leaves devices out: only Linux containers have them.
func mknod(string, File) error { return nil }

func chmod(path string, mode int64) error { return os.Chmod(path, fs.FileMode(mode&0o777)) }
