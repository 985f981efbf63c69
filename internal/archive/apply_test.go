//go:build linux

package archive

import (
	"archive/tar"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestApplyKinds(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	// A capability set: version 2, cap_net_raw permitted and effective.
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	long := ""
	for range 30 {
		long += "a-rather-long-directory-name/"
	}
	mustApply(t, root, nil,
		dir(".", 0o711),
		dir("d", 0o1777).owner(3, 4).xattr("user.colour", "blue").xattr("trusted.overlay.opaque", "y"),
		file("d/f", "content").mode(0o4755).owner(5, 6).xattr("security.capability", capability),
		file("d/readonly", "x").mode(0o400).xattr("user.overlay.opaque", "y").xattr("trusted.mine", "1"),
		file("d/open", "x").mode(0o666),
		symlink("d/s", "/nowhere").owner(7, 8),
		hardlink("d/h", "d/f").mode(0o4755).owner(5, 6),
		device("d/null", tar.TypeChar, 1, 3).owner(0, 9),
		device("d/blk", tar.TypeBlock, 259, 70000).mode(0o600),
		device("d/fifo", tar.TypeFifo, 0, 0).mode(0o622),
		file(long+"f", "deep"),
		dir("empty", 0o000),
	)
	want := map[string]string{
		".":          "40711 0:0 1700000000.123456789",
		"d":          `41777 3:4 1700000000.123456789 user.colour="blue"`,
		"d/f":        `104755 5:6 1700000000.123456789 "content" security.capability=` + describeQuote(capability),
		"d/h":        `104755 5:6 1700000000.123456789 "content" security.capability=` + describeQuote(capability),
		"d/readonly": `100400 0:0 1700000000.123456789 "x" trusted.mine="1"`,
		"d/open":     `100666 0:0 1700000000.123456789 "x"`,
		"d/s":        `120777 7:8 1700000000.123456789 -> /nowhere`,
		"d/null":     `20666 0:9 1700000000.123456789 1:3`,
		"d/blk":      `60600 0:0 1700000000.123456789 259:70000`,
		"d/fifo":     `10622 0:0 1700000000.123456789`,
		"empty":      `40000 0:0 1700000000.123456789`,
		long + "f":   `100644 0:0 1700000000.123456789 "deep"`,
	}
	got := snapshot(t, root, nil)
	for p, w := range want {
		if g := got[filepath.Clean(p)]; g != w {
			t.Errorf("%s:\n got %s\nwant %s", p, g, w)
		}
	}
	if opaqueAt(t, root+"/d", "trusted.overlay.opaque") || opaqueAt(t, root+"/d/readonly", "user.overlay.opaque") {
		t.Error("attributes of overlayfs came out of the archive")
	}
	var a, b unix.Stat_t
	unix.Stat(root+"/d/f", &a)
	unix.Stat(root+"/d/h", &b)
	if a.Ino != b.Ino {
		t.Error("hard link is a file of its own")
	}
}

func TestApplyWhiteouts(t *testing.T) {
	needRoot(t)
	for _, style := range []Whiteouts{WhiteoutOverlay, WhiteoutUserOverlay} {
		root := t.TempDir()
		mustApply(t, root, &ApplyOptions{Whiteouts: style},
			dir("d", 0o755), file("d/.wh.gone", ""), file("d/.wh..wh..opq", ""), file("d/new", "n"),
			file(".wh.top", ""), file(".wh..wh.plnk/123", "aufs"))
		for _, p := range []string{"d/gone", "top"} {
			var st unix.Stat_t
			if err := unix.Lstat(root+"/"+p, &st); err != nil || !isWhiteout(&st) {
				t.Errorf("%s is no whiteout: %v", p, err)
			}
		}
		key := "trusted.overlay.opaque"
		if style == WhiteoutUserOverlay {
			key = "user.overlay.opaque"
		}
		if !opaqueAt(t, root+"/d", key) {
			t.Errorf("d has no %s", key)
		}
		if list, _ := os.ReadDir(root); len(list) != 2 {
			t.Errorf("root holds %v", list)
		}
	}
}

func TestApplyPlainWhiteouts(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	mustApply(t, root, &ApplyOptions{Whiteouts: WhiteoutPlain},
		dir("d", 0o755), file("d/old", "1"), file("d/sub/old", "1"), file("gone/deep/f", ""), file("keep", "1"), file("f", "1"),
		dir("e", 0o755), file("e/old", "1"))
	mustApply(t, root, &ApplyOptions{Whiteouts: WhiteoutPlain},
		file("d/sub/new", "2"), file("d/.wh..wh..opq", ""), file("d/new", "2"), file(".wh.gone", ""), file(".wh.absent", ""),
		file("f", "2"), file(".wh.f", ""), file("e/new", "2"), file(".wh.e", ""))
	got := snapshot(t, root, nil)
	for _, p := range []string{"d/new", "d/sub/new", "keep", "f", "e/new"} {
		if got[p] == "" {
			t.Errorf("%s is missing", p)
		}
	}
	for _, p := range []string{"d/old", "d/sub/old", "gone", "e/old", ".wh.absent"} {
		if got[p] != "" {
			t.Errorf("%s is still there", p)
		}
	}
}

func TestApplyLiteralKeepsReservedNames(t *testing.T) {
	root := t.TempDir()
	if _, err := apply(t, root, &ApplyOptions{Whiteouts: WhiteoutLiteral}, file(".wh.x", "1").owner(os.Getuid(), os.Getgid())); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(root + "/.wh.x"); string(data) != "1" {
		t.Errorf("got %q", data)
	}
}

func TestApplyReplaces(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	mustApply(t, root, nil,
		file("a/b/c", "1"), file("a", "file over directory"),
		file("x", "1"), dir("x", 0o700), file("x/y", "directory over file"),
		symlink("s", "x"), file("s", "file over link"), file("x/z", "by cached name"),
		file("f", "one"), hardlink("g", "f"), file("f", "two"),
		file("p", "plain"), file("p/q", "file as a parent"),
		symlink("l", "x"), dir("l", 0o755), file("l/m", "directory over link"))
	for p, want := range map[string]string{
		"a": "file over directory", "x/y": "directory over file", "s": "file over link", "x/z": "by cached name",
		"f": "two", "g": "one", "p/q": "file as a parent", "l/m": "directory over link",
	} {
		if data, err := os.ReadFile(filepath.Join(root, p)); string(data) != want {
			t.Errorf("%s: %q, %v", p, data, err)
		}
	}
	// What stood there hid the lower layers.
	for _, p := range []string{"x", "p", "l"} {
		if !opaqueAt(t, root+"/"+p, "trusted.overlay.opaque") {
			t.Errorf("%s would show lower layers", p)
		}
	}
}
