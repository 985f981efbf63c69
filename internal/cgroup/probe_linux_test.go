package cgroup

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree writes the files of a hierarchy of v2 as the kernel shows them; each
// group is "path: controllers it hands down: its processes".
func tree(t *testing.T, top string, groups ...string) string {
	t.Helper()
	root := t.TempDir()
	write := func(dir, name, text string) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(root, "cgroup.controllers", top+"\n")
	write(root, "cgroup.procs", "1\n2\n") // the root of all may have processes: it has no cgroup.type
	for _, g := range groups {
		f := strings.Split(g, ":")
		dir := filepath.Join(root, f[0])
		write(dir, "cgroup.type", "domain\n")
		write(dir, "cgroup.subtree_control", f[1]+"\n")
		write(dir, "cgroup.procs", f[2])
	}
	return root
}

func TestHandedDown(t *testing.T) {
	const all = "cpu memory pids"
	for name, tt := range map[string]struct {
		groups   []string
		group    string
		want     string
		occupied string
	}{
		"root":           {nil, "/", all, ""},
		"not made yet":   {nil, "/a/b", all, ""},
		"empty groups":   {[]string{"/a::", "/a/b::"}, "/a/b", all, ""},
		"occupied":       {[]string{"/a::7\n"}, "/a", "", "/a"},
		"occupied above": {[]string{"/a:pids:7\n", "/a/b::"}, "/a/b", "pids", "/a"},
		"twice":          {[]string{"/a:cpu pids:7\n", "/a/b:cpu:8\n"}, "/a/b/c", "cpu", "/a/b"},
		"namespace":      {[]string{"/::7\n"}, "/", "", "/"},
	} {
		t.Run(name, func(t *testing.T) {
			root := tree(t, all, tt.groups...)
			var have, occupied string
			err := handedDown(root, tt.group, func(at string, usable map[string]bool) {
				have, occupied = strings.Join(slices.Sorted(maps.Keys(usable)), " "), at
			})
			if err != nil || have != tt.want || occupied != tt.occupied {
				t.Errorf("got %q, held back by %q, %v; want %q, %q", have, occupied, err, tt.want, tt.occupied)
			}
		})
	}
}

func TestUnifiedSwap(t *testing.T) {
	root := tree(t, "memory", "/plain::", "/with::", "/without::")
	for _, file := range []string{"with/memory.max", "with/memory.swap.max"} {
		if err := os.WriteFile(filepath.Join(root, file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if !unifiedSwap(root) {
		t.Error("a group has memory.swap.max, and swap cannot be limited")
	}
	if err := os.Remove(filepath.Join(root, "with/memory.swap.max")); err != nil {
		t.Fatal(err)
	}
	if unifiedSwap(root) {
		t.Error("a group with memory.max has no memory.swap.max, and swap can be limited")
	}
}
