//go:build linux

package archive

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// settled makes the layers, isolated, and returns their directories.
func settled(t *testing.T, layers ...[]*entry) []string {
	t.Helper()
	var dirs []string // topmost first
	for i, l := range layers {
		root := t.TempDir()
		done := mustApply(t, root, &ApplyOptions{Isolated: true}, l...)
		if err := Settle(t.Context(), root, dirs, done); err != nil {
			t.Fatalf("layer %d: %v", i, err)
		}
		dirs = append([]string{root}, dirs...)
	}
	return dirs
}

func TestSettleInheritsDirectories(t *testing.T) {
	needRoot(t)
	dirs := settled(t,
		[]*entry{dir(".", 0o711).owner(9, 9), dir("tmp", 0o1777).owner(1, 2).xattr("user.k", "v"), dir("gone", 0o700), dir("far", 0o705)},
		[]*entry{dir("far", 0o706), file(".wh.gone", "")},
		[]*entry{file("tmp/f", ""), file("gone/f", ""), file("far/f", ""), file("new/f", "")})
	got := snapshot(t, dirs[0], nil)
	for p, want := range map[string]string{
		".":    "40711 9:9 1700000000.123456789",
		"tmp":  `41777 1:2 1700000000.123456789 user.k="v"`,
		"far":  "40706 0:0 1700000000.123456789",
		"gone": "40755 0:0 ", "new": "40755 0:0 ",
	} {
		if !strings.HasPrefix(got[p], want) {
			t.Errorf("%s: %s, want %s", p, got[p], want)
		}
	}
}

func TestSettleFollowsLowerLinks(t *testing.T) {
	needRoot(t)
	dirs := settled(t,
		[]*entry{dir("usr", 0o711), dir("usr/lib", 0o751), dir("usr/lib/d", 0o777), file("usr/lib/old", ""), symlink("lib", "usr/lib"),
			symlink("usr/lib/back", "/usr/lib/d"), symlink("dangling", "to/nothing")},
		[]*entry{file("lib/x", "x"), file("lib/d/y", "y"), file("lib/.wh.old", ""), file("lib/back/z", "z"), dir("lib/mine", 0o712),
			file("lib/mine/.wh..wh..opq", ""), file("dangling/f", "f")})
	got := snapshot(t, dirs[0], nil)
	for p, want := range map[string]string{
		"usr": "40711 0:0 1700000000.123456789", "usr/lib": "40751 0:0 1700000000.123456789",
		"usr/lib/d": "40777 0:0 1700000000.123456789", "usr/lib/mine": "40712 0:0 1700000000.123456789",
		"usr/lib/x": `100644 0:0 1700000000.123456789 "x"`, "usr/lib/d/y": `100644 0:0 1700000000.123456789 "y"`,
		"usr/lib/d/z": `100644 0:0 1700000000.123456789 "z"`, "usr/lib/old": "20000 0:0 ", "to/nothing/f": `100644 0:0 1700000000.123456789 "f"`,
	} {
		if !strings.HasPrefix(got[p], want) {
			t.Errorf("%s: %s, want %s", p, got[p], want)
		}
	}
	for _, p := range []string{"lib", "dangling", "usr/lib/back"} {
		if got[p] != "" {
			t.Errorf("%s hides the lower link: %s", p, got[p])
		}
	}
	if !opaqueAt(t, dirs[0]+"/usr/lib/mine", "trusted.overlay.opaque") {
		t.Error("the opaque mark was lost on the way")
	}
}

func TestSettleCopiesLinkTargets(t *testing.T) {
	needRoot(t)
	dirs := settled(t,
		[]*entry{dir("bin", 0o751), file("bin/a", "content").owner(1, 2).mode(0o4755).xattr("user.k", "v"), symlink("bin/s", "a"), symlink("sbin", "bin")},
		[]*entry{hardlink("b", "bin/a").owner(1, 2).mode(0o4755), hardlink("c", "b").owner(1, 2).mode(0o4755), hardlink("s", "/bin/s"),
			hardlink("replaced", "bin/a").owner(1, 2).mode(0o4755), file("replaced", "by a file"), hardlink("d", "sbin/a").owner(3, 3).mode(0o700)})
	got := snapshot(t, dirs[0], nil)
	want := `100700 3:3 1700000000.123456789 "content" user.k="v"` // as the last link says
	for _, p := range []string{"b", "c", "d", "bin/a"} {
		if got[p] != want {
			t.Errorf("%s: %s", p, got[p])
		}
	}
	if got["replaced"] != `100644 0:0 1700000000.123456789 "by a file"` || !strings.HasSuffix(got["s"], "-> a") {
		t.Errorf("%q %q", got["replaced"], got["s"])
	}
	if got["bin"] != "40751 0:0 1700000000.123456789" {
		t.Errorf("bin: %s", got["bin"])
	}
	var first, other unix.Stat_t
	unix.Stat(dirs[0]+"/b", &first)
	for _, p := range []string{"c", "d", "bin/a"} {
		if unix.Stat(dirs[0]+"/"+p, &other); other.Ino != first.Ino {
			t.Errorf("%s is a file of its own", p)
		}
	}
	lower, _ := os.Stat(dirs[1] + "/bin/a")
	if lower.Mode().Perm() != 0o755 {
		t.Error("the lower layer was changed")
	}
	root := t.TempDir()
	done := mustApply(t, root, &ApplyOptions{Isolated: true}, hardlink("h", "bin/absent"))
	if err := Settle(t.Context(), root, dirs, done); !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), "bin/absent") {
		t.Errorf("absent target: %v", err)
	}
}

func TestSettleOpaqueRoot(t *testing.T) {
	needRoot(t)
	dirs := settled(t, []*entry{file("a", ""), file("d/x", ""), file("keep/x", "")}, []*entry{file("b", "")},
		[]*entry{file(".wh..wh..opq", ""), file("keep/y", ""), file("a", "new")})
	got := snapshot(t, dirs[0], nil)
	for _, p := range []string{"d", "b"} {
		if !strings.HasPrefix(got[p], "20000 ") {
			t.Errorf("%s is not hidden: %s", p, got[p])
		}
	}
	if !opaqueAt(t, dirs[0]+"/keep", "trusted.overlay.opaque") || !strings.HasPrefix(got["a"], "100644") {
		t.Errorf("%v", got)
	}
}

func TestSettleAsksForOrder(t *testing.T) {
	needRoot(t)
	low := settled(t, []*entry{dir("usr/lib", 0o755), symlink("lib", "usr/lib")})
	for name, layer := range map[string][]*entry{
		"described later": {file("lib/x", "1"), dir("lib", 0o755), file("lib/y", "2")},
		"both names":      {file("usr/lib/x", "1"), file("lib/x", "2")},
		"deleted later":   {file("lib/x", "1"), file(".wh.lib", "")},
	} {
		root := t.TempDir()
		done := mustApply(t, root, &ApplyOptions{Isolated: true}, layer...)
		if err := Settle(t.Context(), root, low, done); !errors.Is(err, ErrReapply) {
			t.Errorf("%s: %v", name, err)
		}
		again := t.TempDir()
		mustApply(t, again, &ApplyOptions{Lowers: low}, layer...)
		if _, err := os.Lstat(again + "/usr/lib/x"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
