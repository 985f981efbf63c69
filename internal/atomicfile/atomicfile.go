// Package atomicfile writes files so that a reader, or a machine that lost
// power, sees the old content or the new one and nothing between.
package atomicfile

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// Write replaces path by data: temp file, rename, and with sync also fsync of
// file and directory. The temp file is removed on failure. Its name starts
// with ".tmp-"; what a killed writer left under such a name may be deleted
// by whoever holds the directory's lock.
func Write(path string, data []byte, perm os.FileMode, sync bool) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".tmp-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails harmlessly after the rename
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(perm); err != nil {
		return err
	}
	if sync {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	if sync {
		return SyncDir(dir)
	}
	return nil
}

// WriteJSON is Write of v as JSON.
func WriteJSON(path string, v any, perm os.FileMode, sync bool) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return Write(path, append(data, '\n'), perm, sync)
}

// SyncDir makes renames, creations and removals in dir survive power loss.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return syncDir(d)
}
