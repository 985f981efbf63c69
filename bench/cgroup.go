package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// removeGroups removes the empty control groups with a name, in all
// hierarchies.
func removeGroups(name string) {
	roots, _ := filepath.Glob("/sys/fs/cgroup/*")
	for _, root := range append(roots, "/sys/fs/cgroup") {
		var dirs []string
		filepath.WalkDir(filepath.Join(root, name), func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for _, dir := range slices.Backward(dirs) {
			syscall.Rmdir(dir)
		}
	}
}

// ownGroups are the control groups that we are in.
func ownGroups() []string {
	data, _ := os.ReadFile("/proc/self/cgroup")
	groups := []string{"/"}
	for line := range strings.Lines(string(data)) {
		if _, path, ok := strings.Cut(strings.TrimSpace(line), ":/"); ok {
			groups = append(groups, "/"+path)
		}
	}
	slices.Sort(groups)
	return slices.Compact(groups)
}
