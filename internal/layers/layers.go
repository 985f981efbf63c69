// Package layers finds the trees of unpacked layers in a Root. A layer is the
// directory Root/layers/NAME; its tree is "diff" in it, or, when the same layer
// goes by several names, a symbolic link there to the tree of the one that has
// the files. It is for whoever mounts: internal/store makes and removes layers.
package layers

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Dir is the directory of all layers in a Root.
func Dir(root string) string { return filepath.Join(root, "layers") }

// Link is what the symbolic link "diff" of a layer holds that has the files of
// another one.
func Link(name string) string { return "../" + name + "/diff" }

// Target is the name of the layer that has the files of the layer called name:
// that itself, or the one that it shares them with. A name without a layer is
// its own target.
func Target(root, name string) string {
	link, err := os.Readlink(filepath.Join(Dir(root), name, "diff"))
	if err != nil {
		return name // a directory, or nothing
	}
	to, ok := strings.CutPrefix(link, "../")
	if to, is := strings.CutSuffix(to, "/diff"); ok && is && IsName(to) {
		return to
	}
	return name // nobody of ours made this link: whoever opens the tree fails
}

// IsName reports whether a string can be the name of a layer: 64 lower-case
// hexadecimal digits. Those of images are chain ids, others are random.
func IsName(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Tree is the directory with the files of a layer, whether it is there or not.
func Tree(root, name string) string {
	return filepath.Join(Dir(root), Target(root, name), "diff")
}

// Trees are the trees of layers given from bottom to top: the topmost first, as
// an overlay takes them. Of several names of one tree only the topmost counts:
// overlayfs refuses a directory that occurs twice, and what the lower one would
// show, the upper one hides with the very same.
func Trees(root string, names []string) []string {
	dirs := make([]string, 0, len(names))
	seen := make(map[string]bool, len(names))
	for _, name := range slices.Backward(names) {
		t := Target(root, name)
		if !seen[t] {
			seen[t] = true
			dirs = append(dirs, filepath.Join(Dir(root), t, "diff"))
		}
	}
	return dirs
}

// Settled reports whether a layer is there and known to be on disk. One that
// is not may be of an earlier boot, and so not what it should be.
func Settled(root, name string) bool {
	target := Target(root, name)
	if !exists(filepath.Join(Dir(root), target, "diff")) {
		return false
	}
	for _, n := range slices.Compact([]string{name, target}) {
		if exists(filepath.Join(Dir(root), n, "pending")) {
			return false
		}
	}
	return true
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
