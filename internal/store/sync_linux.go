package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncTree writes back the file system that dir is on.
func syncTree(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
