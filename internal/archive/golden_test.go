//go:build linux

package archive

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Images that were built refer to their layers by the digest of what Create
// makes of them, and the archive itself is not kept: it is made again when
// somebody pushes or saves the image, perhaps by a later version of this
// program. So the bytes may never change. If this test fails, the fault is in
// the change, not in the digest below; a newer Go whose archive/tar writes
// other bytes must be met by writing the old ones here.
func TestBytesNeverChange(t *testing.T) {
	needRoot(t)
	layer := t.TempDir()
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	deep := strings.Repeat("deep/", 40) + strings.Repeat("n", 120)
	mustApply(t, layer, nil, dir(".", 0o751), dir("d", 0o3777).owner(1, 2).xattr("user.x", "1").xattr("user.a", "\x00\xff\n"),
		file("d/f", "content").owner(3, 4).mode(0o4711).xattr("security.capability", capability),
		hardlink("d/h", "d/f").owner(3, 4).mode(0o4711).xattr("security.capability", capability),
		symlink("d/s", "f").owner(5, 6).xattr("trusted.on-a-link", "1"), hardlink("d/t", "d/s").owner(5, 6),
		symlink("long", strings.Repeat("target/", 30)),
		device("null", tar.TypeChar, 1, 3), device("disk", tar.TypeBlock, 8, 300), device("fifo", tar.TypeFifo, 0, 0),
		file(deep, "deep"), file("empty", ""), file("ünïcode \x01 name", "u"), file("owner", "o").owner(4000000000, 3000000),
		file("big", strings.Repeat("0123456789abcdef", 5000)),
		dir("opaque", 0o755), file("opaque/.wh..wh..opq", ""), file("opaque/new", "n"), file("d/.wh.gone", ""), file(".wh.top", ""))
	times := map[string]time.Time{
		"empty": time.Unix(0, 0), "owner": time.Unix(-5, 1), "big": time.Unix(1<<33, 999999999), "d/f": time.Unix(1500000000, 0),
	}
	for name, at := range times {
		if err := os.Chtimes(layer+"/"+name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	// Parents without an entry of their own got the time of this test.
	for p := strings.TrimSuffix(deep, "/"+strings.Repeat("n", 120)); ; p = p[:strings.LastIndexByte(p, '/')] {
		if err := os.Chtimes(layer+"/"+p, epoch, epoch); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(p, "/") {
			break
		}
	}
	if err := unix.Mknod(layer+"/socket", unix.S_IFSOCK|0o600, 0); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		opts CreateOptions
		want string
	}{
		{"a layer", CreateOptions{Overlay: true}, "5b744d1312f8076697a2aae84e1b8cb4cfd351e5b6a115c6a6ff319663950867"},
		{"a layer with a time limit", CreateOptions{Overlay: true, MaxTime: time.Unix(1600000000, 0)}, "84fd0684c10ea3975db065b5d8931190139c737daff0bcd9451b679683113bf0"},
	} {
		sum := sha256.Sum256(create(t, layer, &c.opts))
		if got := hex.EncodeToString(sum[:]); got != c.want {
			t.Errorf("the archive of %s is %s, and was %s", c.what, got, c.want)
		}
	}
}
