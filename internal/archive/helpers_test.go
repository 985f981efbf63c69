//go:build linux

package archive

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var epoch = time.Unix(1700000000, 123456789)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes device nodes, owners and trusted attributes")
	}
}

// Constructors of entries. Content and mode can be changed afterwards.
func file(name, content string) *entry {
	return &entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content)), ModTime: epoch}, content}
}
func dir(name string, mode int64) *entry {
	return &entry{tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, ModTime: epoch}, ""}
}
func symlink(name, target string) *entry {
	return &entry{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: epoch}, ""}
}
func hardlink(name, target string) *entry {
	return &entry{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644, ModTime: epoch}, ""}
}
func device(name string, kind byte, major, minor int64) *entry {
	return &entry{tar.Header{Typeflag: kind, Name: name, Mode: 0o666, Devmajor: major, Devminor: minor, ModTime: epoch}, ""}
}

type entry struct {
	tar.Header
	content string
}

func (e *entry) owner(uid, gid int) *entry { e.Uid, e.Gid = uid, gid; return e }
func (e *entry) mode(m int64) *entry       { e.Mode = m; return e }
func (e *entry) xattr(key, val string) *entry {
	if e.PAXRecords == nil {
		e.PAXRecords = map[string]string{}
	}
	e.PAXRecords["SCHILY.xattr."+key] = val
	return e
}

func (e *entry) String() string {
	return fmt.Sprintf("%c %s %s %o", e.Typeflag, e.Name, e.Linkname, e.Mode)
}

func archiveOf(t testing.TB, entries ...*entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		h.Format = tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatalf("%v: %v", e, err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func apply(t testing.TB, dir string, opts *ApplyOptions, entries ...*entry) (*Applied, error) {
	t.Helper()
	return Apply(t.Context(), dir, bytes.NewReader(archiveOf(t, entries...)), opts)
}

func mustApply(t testing.TB, dir string, opts *ApplyOptions, entries ...*entry) *Applied {
	t.Helper()
	done, err := apply(t, dir, opts, entries...)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// snapshot describes a tree, a line for each name. Names in loose have no
// time in it.
func snapshot(t testing.TB, root string, loose map[string]bool) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		out[rel] = describeFile(t, p, loose[rel])
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func describeFile(t testing.TB, p string, loose bool) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		return "is listed, but " + err.Error() // overlayfs shows a whiteout so
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%o %d:%d", st.Mode, st.Uid, st.Gid)
	if !loose {
		fmt.Fprintf(&b, " %d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		data, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, " %q", data)
	case unix.S_IFLNK:
		target, _ := os.Readlink(p)
		fmt.Fprintf(&b, " -> %s", target)
	case unix.S_IFCHR, unix.S_IFBLK:
		fmt.Fprintf(&b, " %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	x, err := readXattrs(p)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for k := range x {
		keys = append(keys, fmt.Sprintf(" %s=%q", k, x[k]))
	}
	sort.Strings(keys)
	b.WriteString(strings.Join(keys, ""))
	return b.String()
}

func diff(want, got map[string]string) string {
	var lines []string
	for p, w := range want {
		if g, ok := got[p]; !ok {
			lines = append(lines, fmt.Sprintf("%s: missing, want %s", p, w))
		} else if g != w {
			lines = append(lines, fmt.Sprintf("%s:\n   got  %s\n   want %s", p, g, w))
		}
	}
	for p, g := range got {
		if _, ok := want[p]; !ok {
			lines = append(lines, fmt.Sprintf("%s: extra %s", p, g))
		}
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func opaqueAt(t testing.TB, p, key string) bool {
	t.Helper()
	var v [4]byte
	n, err := unix.Lgetxattr(p, key, v[:])
	return err == nil && string(v[:n]) == "y"
}

func describeQuote(s string) string { return fmt.Sprintf("%q", s) }
