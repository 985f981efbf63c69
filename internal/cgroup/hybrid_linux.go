package cgroup

import (
	"os"
	"path/filepath"
	"strings"
)

// JoinsFast reports whether a process can join all groups that matter without
// a grace period of the kernel, by writing 0 to their tasks files: that is so on
// cgroup v1, if the v2 side of a hybrid machine controls nothing below its root.
func JoinsFast() bool {
	m, err := all()
	if err != nil || m[0].controllers == nil {
		return false
	}
	last := m[len(m)-1]
	if last.controllers != nil {
		return true
	}
	b, err := os.ReadFile(filepath.Join(last.dir, "cgroup.subtree_control"))
	return err == nil && len(strings.TrimSpace(string(b))) == 0
}

// enterHybrid moves this process on the v2 side of a hybrid machine, where
// systemd looks for a unit's processes as well. Without one, or where it is
// read-only, nothing is lost that v1 does not have.
func enterHybrid(group, now string) {
	m, err := all()
	if err != nil || now == "" || now == "/" || now == group {
		return
	}
	if h := m[len(m)-1]; h.controllers == nil {
		join(filepath.Join(h.dir, group), os.MkdirAll)
	}
}
