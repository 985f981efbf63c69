package store

import (
	"io/fs"
	"os"
	"path/filepath"
)

// removeTree is os.RemoveAll for trees that came from an image: as a plain
// user one cannot empty a directory without the write bit.
func removeTree(path string) error {
	if err := os.RemoveAll(path); err == nil || os.Geteuid() == 0 {
		return err
	}
	filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(path)
}
