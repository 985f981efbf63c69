//go:build linux

package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// outsideDir makes a directory that must not change, and returns a check.
func outsideDir(t testing.TB) (dir string, unchanged func()) {
	dir = filepath.Join(t.TempDir(), "outside")
	if err := errors.Join(os.MkdirAll(dir+"/sub", 0o755), os.WriteFile(dir+"/secret", []byte("SECRET"), 0o600),
		os.WriteFile(dir+"/sub/f", []byte("SECRET"), 0o600)); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, dir, nil)
	var st unix.Stat_t
	unix.Stat(dir+"/secret", &st)
	return dir, func() {
		t.Helper()
		if d := diff(before, snapshot(t, dir, nil)); d != "" {
			t.Errorf("outside of the root:\n%s", d)
		}
		var now unix.Stat_t
		if unix.Stat(dir+"/secret", &now); now.Nlink != st.Nlink || now.Ctim != st.Ctim {
			t.Errorf("something linked to or changed a file outside")
		}
	}
}

// styles are all ways to apply.
func styles() map[string]*ApplyOptions {
	return map[string]*ApplyOptions{
		"overlay": {}, "user": {Whiteouts: WhiteoutUserOverlay}, "plain": {Whiteouts: WhiteoutPlain},
		"literal": {Whiteouts: WhiteoutLiteral}, "isolated": {Isolated: true}, "lowers": {Lowers: []string{}},
	}
}

func TestApplyHostileNames(t *testing.T) {
	needRoot(t)
	for style, opts := range styles() {
		t.Run(style, func(t *testing.T) {
			out, unchanged := outsideDir(t)
			up := strings.Repeat("../", 20) + out[1:]
			cases := map[string][]*entry{
				"absolute name":          {file("/abs/f", "1"), file(out+"/secret", "1")},
				"climbing name":          {file("../../climb", "1"), file(up+"/secret", "1"), file("a/../../../x", "1")},
				"absolute link parent":   {symlink("l", out), file("l/secret", "1"), file("l/new/f", "1")},
				"relative link parent":   {symlink("l", up), file("l/secret", "1"), dir("l/sub", 0o777)},
				"link by link":           {symlink("a", "/"), symlink("a/b", ".."), symlink("l", "b/a/b/"+out), file("l/secret", "1")},
				"overwrite through link": {symlink("l", out+"/secret"), file("l", "1")},
				"directory over link":    {symlink("l", out), dir("l", 0o777).owner(1, 1), file("l/x", "1")},
				"link in the way":        {dir("d", 0o755), file("d/f", "1"), symlink("d", out), file("d/secret", "1")},
				"whiteout through link":  {symlink("l", out), file("l/.wh.secret", ""), file("l/.wh.sub", "")},
				"opaque through link":    {symlink("l", out), file("l/.wh..wh..opq", "")},
				"node through link":      {symlink("l", out), device("l/secret", tar.TypeChar, 1, 3)},
				"link through link":      {symlink("l", out), symlink("l/secret", "x"), hardlink("l/sub/f", "l/secret")},
				"proc link":              {symlink("l", "/proc/self/root"), file("l"+out+"/secret", "1")},
				"proc cwd":               {symlink("l", "/proc/self/fd/3"), file("l/secret", "1")},
			}
			for name, entries := range cases {
				root := t.TempDir()
				if _, err := apply(t, root, opts, entries...); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				unchanged()
				if t.Failed() {
					t.Fatal(name)
				}
			}
		})
	}
}

func TestApplyRefuses(t *testing.T) {
	needRoot(t)
	out, unchanged := outsideDir(t)
	long := strings.Repeat("n", 256)
	big := int64(1) << 32
	deep := strings.Repeat("d/", 2100) + "f"
	cases := map[string][]*entry{
		"hard link to outside":       {hardlink("h", out+"/secret")},
		"hard link through a link":   {symlink("l", out), hardlink("h", "l/secret")},
		"hard link up":               {hardlink("h", "../../.."+out+"/secret")},
		"hard link to nothing":       {hardlink("h", "absent")},
		"hard link to a directory":   {dir("d", 0o755), hardlink("h", "d")},
		"hard link to the root":      {hardlink("h", "/")},
		"hard link below a file":     {file("f", ""), hardlink("h", "f/x")},
		"hard link into itself":      {file("d/f", ""), hardlink("d", "d/f")},
		"hard link to a whiteout":    {file(".wh.x", ""), hardlink("h", "x")},
		"empty whiteout":             {file(".wh.", "")},
		"whiteout of .":              {file("d/.wh..", "")},
		"whiteout of ..":             {file("d/.wh...", "")},
		"whiteout of a whiteout":     {file("d/.wh..wh.x", "")},
		"directory with a reserved":  {file("d/.wh.x/y", "")},
		"opaque below a reserved":    {file(".wh.x/.wh..wh..opq", "")},
		"long component":             {file(long, "")},
		"long path":                  {file(deep, "")},
		"long path by links":         {symlink("l", strings.Repeat("e/", 1000)), symlink("l/l", strings.Repeat("e/", 1500)), file("l/l/x", "")},
		"link loop":                  {symlink("a", "b"), symlink("b", "a"), file("a/f", "")},
		"link to itself":             {symlink("a", "a"), file("a/f", "")},
		"root is a link":             {symlink("./", out)},
		"root is a file":             {file(".", "x")},
		"major number":               {device("n", tar.TypeChar, 4096, 0)},
		"minor number":               {device("n", tar.TypeBlock, 0, 1<<20)},
		"large uid":                  {file("f", "").owner(int(big-1), 0)},
		"larger gid":                 {dir("f", 0).owner(0, int(big<<8|1<<31))},
		"negative uid":               {file("f", "").owner(-1, 0)},
		"attribute without a prefix": {file("f", "").xattr("security.capability", "nonsense")},
		"unknown type":               {{tar.Header{Typeflag: 'D', Name: "dumpdir"}, ""}},
		"content limit":              {file("f", strings.Repeat("x", 600)), file("g", strings.Repeat("x", 600))},
	}
	for name, entries := range cases {
		for style, opts := range styles() {
			if style == "literal" && (strings.Contains(name, "whiteout") || strings.Contains(name, "reserved")) {
				continue
			}
			opts.MaxBytes = 1000
			root := t.TempDir()
			done, err := apply(t, root, opts, entries...)
			if err == nil && style == "isolated" && strings.Contains(name, "hard link") {
				err = Settle(t.Context(), root, nil, done)
			}
			last := entries[len(entries)-1].Name
			if !errors.Is(err, fs.ErrInvalid) || !strings.Contains(fmt.Sprint(err), fmt.Sprintf("%.200s", filepath.Clean(last))) && last != "./" && last != "." {
				t.Errorf("%s, %s: %v", name, style, err)
			}
			unchanged()
		}
	}
}

// raw makes a header block that no writer would make.
func raw(patch func(block []byte)) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "patched", Mode: 0o644, Format: tar.FormatGNU})
	block := b.Bytes()[:512]
	patch(block)
	copy(block[148:156], "        ")
	sum := 0
	for _, c := range block {
		sum += int(c)
	}
	copy(block[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return block
}

func TestApplyRawHeaders(t *testing.T) {
	needRoot(t)
	size := func(field string) func([]byte) { return func(b []byte) { copy(b[124:136], field) } }
	pax := func(record string) []byte {
		var b bytes.Buffer
		head := raw(func(h []byte) {
			h[156] = 'x'
			copy(h[124:136], fmt.Sprintf("%011o\x00", len(record)))
		})
		b.Write(head)
		b.WriteString(record)
		b.Write(make([]byte, 512-len(record)))
		b.Write(raw(func([]byte) {}))
		return b.Bytes()
	}
	for name, c := range map[string]struct {
		data []byte
		kind error
	}{
		"negative size":      {raw(size("-0000000001\x00")), fs.ErrInvalid},
		"negative base 256":  {raw(size("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe")), fs.ErrInvalid},
		"size over 63 bits":  {raw(size("\x80\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff")), fs.ErrInvalid},
		"8 EiB without data": {raw(size("\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff")), io.ErrUnexpectedEOF},
		"1 TiB without data": {append(raw(size("\x80\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00")), make([]byte, 5000)...), io.ErrUnexpectedEOF},
		"NUL in a name":      {pax("12 path=a\x00b\n"), fs.ErrInvalid},
		"size in PAX":        {pax("14 size=-1000\n"), fs.ErrInvalid},
		"huge PAX size":      {pax("28 size=9223372036854775807\n"), io.ErrUnexpectedEOF},
		"bad check sum":      {func() []byte { b := raw(func([]byte) {}); b[0] ^= 1; return b }(), fs.ErrInvalid},
		"half a block":       {raw(func([]byte) {})[:300], io.ErrUnexpectedEOF},
		// Old GNU sparse of 4 EiB: one map entry, no data.
		"huge sparse": {raw(func(b []byte) {
			b[156] = 'S'
			copy(b[386:398], "00000000000\x00")
			copy(b[398:410], "00000000000\x00")
			copy(b[483:495], "\x80\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00")
		}), fs.ErrInvalid},
	} {
		root := t.TempDir()
		_, err := Apply(t.Context(), root, bytes.NewReader(c.data), nil)
		if !errors.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
		var st unix.Stat_t
		if unix.Stat(root+"/patched", &st) == nil && st.Blocks*512 > 1<<20 {
			t.Errorf("%s: took %d bytes", name, st.Blocks*512)
		}
	}
}

func TestApplyPlainOverPlantedLinks(t *testing.T) {
	needRoot(t)
	out, unchanged := outsideDir(t)
	for _, opts := range []*ApplyOptions{{Whiteouts: WhiteoutPlain}, {Whiteouts: WhiteoutLiteral}} {
		root := t.TempDir()
		os.Symlink(out, root+"/l")
		os.Symlink(out+"/secret", root+"/f")
		os.Mkdir(root+"/d", 0o755)
		os.Symlink(out, root+"/d/l")
		mustApply(t, root, opts, file("l/secret", "1"), file("f", "1"), file("d/.wh..wh..opq", ""), file("d/.wh.l", ""),
			dir("l", 0o777), file("d", "a file over a directory with a link"))
		unchanged()
	}
}

// TestApplyAgainstSwaps unpacks into a tree in which somebody exchanges
// directories and links.
func TestApplyAgainstSwaps(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	out, unchanged := outsideDir(t)
	os.Mkdir(root+"/d", 0o755)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			os.Rename(root+"/d", root+"/e")
			os.Symlink(out, root+"/d")
			os.RemoveAll(root + "/d")
			os.Rename(root+"/e", root+"/d")
		}
	}()
	data := archiveOf(t, dir("d", 0o777).owner(1, 1), file("d/secret", "1").mode(0o4777), dir("d/sub", 0o777), file("d/sub/f", "1"),
		device("d/n", tar.TypeChar, 1, 3), symlink("d/s", "x"), hardlink("d/h", "d/secret").mode(0o777).owner(2, 2), file("d/.wh.sub", ""))
	for range 500 {
		// Most of these fail in some way; none may leave the root.
		Apply(t.Context(), root, bytes.NewReader(data), &ApplyOptions{Whiteouts: WhiteoutPlain})
	}
	close(stop)
	<-done
	unchanged()
}
