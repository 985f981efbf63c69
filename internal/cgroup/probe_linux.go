package cgroup

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// CanLimitSwap reports whether swap can be limited here.
func CanLimitSwap() bool {
	m, err := mounts()
	if err != nil {
		return false
	}
	if m[0].controllers == nil {
		return unifiedSwap(m[0].dir)
	}
	paths, err := own()
	if err != nil {
		return false
	}
	for _, h := range m {
		for _, p := range []string{"", paths["memory"]} {
			if _, err := os.Stat(filepath.Join(h.dir, p, "memory.memsw.limit_in_bytes")); err == nil {
				return true
			}
		}
	}
	return false
}

// unifiedSwap looks at any group with the memory controller: the root has no
// limits, and there may be no other group yet. Then the kernel limits swap if
// it has any, since Linux 5.8 unless that was switched off at boot.
func unifiedSwap(root string) bool {
	groups, _ := filepath.Glob(filepath.Join(root, "*", "memory.max"))
	for _, g := range groups {
		_, err := os.Stat(filepath.Join(filepath.Dir(g), "memory.swap.max"))
		if !errors.Is(err, fs.ErrNotExist) || exists(g) { // else the group is gone
			return err == nil
		}
	}
	b, _ := os.ReadFile("/proc/cmdline")
	return exists("/proc/swaps") && !strings.Contains(string(b), "swapaccount=0")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Controllers lists the controllers that containers' groups below parent, or
// where Base puts them if it is empty, can use.
func Controllers(parent string) (map[string]bool, error) {
	m, err := mounts()
	if err != nil {
		return nil, err
	}
	have := map[string]bool{}
	if m[0].controllers != nil {
		for _, h := range m {
			for _, c := range h.controllers {
				have[c] = true
			}
		}
		return have, nil
	}
	base, err := Base(parent, "")
	if err != nil {
		return nil, err
	}
	err = handedDown(m[0].dir, path.Dir(base), func(_ string, usable map[string]bool) { have = usable })
	return have, err
}

// Lacking is a controller that a group cannot have.
type Lacking struct {
	Controller string
	Occupied   string // the group whose own processes are in the way; empty: the kernel has no such controller
}

// Lacks returns the first of the controllers that group could not be given,
// nil if there is none. On v1 the group is made in what hierarchies there are.
func Lacks(group string, controllers []string) (*Lacking, error) {
	m, err := mounts()
	if err != nil || m[0].controllers != nil || len(controllers) == 0 {
		return nil, err
	}
	var found *Lacking
	err = handedDown(m[0].dir, path.Dir(group), func(above string, usable map[string]bool) {
		for _, c := range controllers {
			if found == nil && !usable[c] {
				found = &Lacking{Controller: c, Occupied: above}
			}
		}
	})
	return found, err
}

// handedDown calls each with the controllers of the kernel and then, for every
// group from the top down to group that holds some back, with what is left.
// The runtime enables all of them on the way; the kernel does not let it where
// a group has processes of its own.
func handedDown(root, group string, each func(occupied string, usable map[string]bool)) error {
	have, err := words(filepath.Join(root, "cgroup.controllers"))
	if err != nil {
		return err
	}
	each("", have)
	at := "/"
	for _, name := range strings.Split("/"+strings.Trim(group, "/"), "/") {
		at = path.Join(at, name)
		dir := filepath.Join(root, at)
		busy, err := occupied(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if !busy {
			continue
		}
		enabled, err := words(filepath.Join(dir, "cgroup.subtree_control"))
		if err != nil {
			return err
		}
		maps.DeleteFunc(have, func(c string, _ bool) bool { return !enabled[c] })
		each(at, have)
	}
	return nil
}

// occupied reports whether the group has processes of its own that keep it
// from handing controllers down. The root of all has no type, and may.
func occupied(dir string) (bool, error) {
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return false, err
	}
	return len(procs) > 0 && exists(filepath.Join(dir, "cgroup.type")), nil
}

func words(file string) (map[string]bool, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	set := map[string]bool{}
	for f := range strings.FieldsSeq(string(b)) {
		set[f] = true
	}
	return set, nil
}
