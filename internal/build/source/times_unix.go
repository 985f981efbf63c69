//go:build unix

package source

import (
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// setTimes gives all in dir, and dir itself, the time t. Links are not
// followed.
func setTimes(dir string, t time.Time) error {
	tv := unix.NsecToTimeval(t.UnixNano())
	return filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := unix.Lutimes(name, []unix.Timeval{tv, tv}); err != nil {
			return &os.PathError{Op: "lutimes", Path: name, Err: err}
		}
		return nil
	})
}
