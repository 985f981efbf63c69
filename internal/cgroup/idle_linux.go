package cgroup

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// RemoveIdle removes a Root's group and its supervisors' where nothing lives
// in them. The kernel refuses for groups that are in use.
func RemoveIdle(group string) {
	ds, err := dirs(group)
	if err != nil {
		return
	}
	for _, d := range ds {
		unix.Rmdir(filepath.Join(d, "shims"))
		unix.Rmdir(d)
	}
}
