//go:build linux

package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

const hierarchy = "/sys/fs/cgroup"

var hexID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// groupOf is the control group of a process.
func groupOf(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(b))
	group, ok := strings.CutPrefix(text, "0::")
	if !ok {
		return "", fmt.Errorf("process %d is not on cgroup v2: %q", pid, text)
	}
	return group, nil
}

func groupFile(group, name string) string {
	b, err := os.ReadFile(filepath.Join(hierarchy, group, name))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}

func groupExists(group string) bool {
	_, err := os.Stat(filepath.Join(hierarchy, group))
	return err == nil
}

// containerGroups lists the control groups of containers, wherever they are.
func containerGroups() (found []string) {
	filepath.WalkDir(hierarchy, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && hexID.MatchString(e.Name()) {
			found = append(found, path)
		}
		return nil
	})
	return found
}

// parentOf is the parent of a process: of a container's first, its supervisor.
func parentOf(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	return strconv.Atoi(f[1])
}

// alive reports whether a process runs; a zombie does not.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

func nothingLeft(g *guest) error {
	infos, err := g.eng.Containers().List(g.ctx, nil)
	if err != nil {
		return err
	}
	for _, i := range infos {
		g.say("left: container %s, %s", i.Name, i.Status)
	}
	if left := containerGroups(); len(left)+len(infos) > 0 {
		return fmt.Errorf("%d containers and the groups %v are left", len(infos), left)
	}
	return nil
}
