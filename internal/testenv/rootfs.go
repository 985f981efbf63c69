package testenv

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// File is one entry of a layer or of an exploded root file system.
type File struct {
	Name string // as in a tar: no leading slash; a directory's may end in one
	Type byte   // a tar type; 0: directory if Name ends in "/", link if Link is set (symbolic), regular otherwise
	Mode int64  // permission bits with setuid 04000, setgid 02000, sticky 01000; 0: 0755 for directories, 0644 else
	Data []byte
	Link string // target of a hard (tar.TypeLink) or symbolic link

	UID, GID     int
	Major, Minor int64
	ModTime      time.Time // zero: Epoch
	Xattrs       map[string]string
}

// Epoch is the time of all files that give none, so that equal images have
// equal digests.
var Epoch = time.Date(2024, 2, 3, 4, 5, 6, 0, time.UTC)

func (f File) kind() byte {
	switch {
	case f.Type != 0:
		return f.Type
	case strings.HasSuffix(f.Name, "/"):
		return tar.TypeDir
	case f.Link != "":
		return tar.TypeSymlink
	}
	return tar.TypeReg
}

func (f File) mode() int64 {
	switch {
	case f.Mode != 0:
		return f.Mode
	case f.kind() == tar.TypeDir || f.kind() == tar.TypeSymlink:
		return 0o755
	}
	return 0o644
}

func (f File) header() *tar.Header {
	h := &tar.Header{
		Typeflag: f.kind(), Name: f.Name, Linkname: f.Link, Size: int64(len(f.Data)), Mode: f.mode(),
		Uid: f.UID, Gid: f.GID, Devmajor: f.Major, Devminor: f.Minor, ModTime: f.ModTime, Format: tar.FormatPAX,
	}
	if h.ModTime.IsZero() {
		h.ModTime = Epoch
	}
	for name, value := range f.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+name] = value
	}
	return h
}

// Tar packs files as they are: hostile names and links are the caller's wish.
func Tar(t testing.TB, files []File) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(f.header()); err != nil {
			t.Fatalf("tar %q: %v", f.Name, err)
		}
		if _, err := w.Write(f.Data); err != nil {
			t.Fatalf("tar %q: %v", f.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Users of the test images.
const (
	passwd = "root:x:0:0:root:/root:/bin/sh\n" +
		"daemon:x:1:1:daemon:/usr/sbin:/bin/false\n" +
		"alice:x:1000:1000:Alice:/home/alice:/bin/sh\n" +
		"bob:x:1001:100:Bob:/home/bob:/bin/sh\n" +
		"nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
	group = "root:x:0:\ndaemon:x:1:\nusers:x:100:\nwheel:x:10:root,alice\naudio:x:29:alice,bob\n" +
		"alice:x:1000:\nnogroup:x:65534:\n"
)

// BaseFiles is the content of the test image: /bin/testbox with a hard link for
// each applet, users (root, daemon, alice 1000:1000 in wheel and audio, bob
// 1001:100 in audio, nobody), /tmp 1777, homes, a setuid program, an empty
// /data, and a symbolic link to a directory (/usr/bin -> ../bin).
func BaseFiles(t testing.TB) []File {
	t.Helper()
	path, applets := Box(t)
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	files := []File{{Name: "bin/"}, {Name: "bin/testbox", Mode: 0o755, Data: program}}
	for _, a := range applets {
		files = append(files, File{Name: "bin/" + a, Type: tar.TypeLink, Link: "bin/testbox", Mode: 0o755})
	}
	return append(files,
		File{Name: "bin/suid-id", Mode: 0o4755, Data: []byte("#!/bin/id\n")},
		File{Name: "etc/"}, File{Name: "etc/passwd", Data: []byte(passwd)}, File{Name: "etc/group", Data: []byte(group)},
		File{Name: "etc/nsswitch.conf", Data: []byte("hosts: files dns\n")},
		File{Name: "data/", UID: 1000, GID: 1000}, File{Name: "dev/"}, File{Name: "proc/", Mode: 0o555}, File{Name: "sys/", Mode: 0o555},
		File{Name: "home/"}, File{Name: "home/alice/", Mode: 0o700, UID: 1000, GID: 1000}, File{Name: "home/bob/", UID: 1001, GID: 100},
		File{Name: "root/", Mode: 0o700}, File{Name: "run/"}, File{Name: "tmp/", Mode: 0o1777},
		File{Name: "usr/"}, File{Name: "usr/bin", Link: "../bin"}, File{Name: "var/"}, File{Name: "var/tmp/", Mode: 0o1777},
	)
}

// RootfsTar is the test image as one tar without a configuration, as image
// import wants it. Further files come last.
func RootfsTar(t testing.TB, more ...File) []byte {
	t.Helper()
	return Tar(t, append(BaseFiles(t), more...))
}

// Rootfs is the test image exploded into a directory of its own below Dir.
// Owners are set when the test is root's; devices are left out otherwise.
func Rootfs(t testing.TB, more ...File) string {
	t.Helper()
	dir := filepath.Join(Dir(t), "rootfs")
	if err := explode(dir, append(BaseFiles(t), more...)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// explode writes trusted files: it must not be used on anything hostile.
func explode(dir string, files []File) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, f := range files {
		if err := explodeOne(dir, f); err != nil {
			return fmt.Errorf("write %s: %w", f.Name, err)
		}
	}
	for _, f := range slices.Backward(files) { // the parents' times after their content
		if f.kind() == tar.TypeDir {
			if err := os.Chtimes(filepath.Join(dir, f.Name), Epoch, f.header().ModTime); err != nil {
				return err
			}
		}
	}
	return nil
}

func explodeOne(dir string, f File) error {
	path := filepath.Join(dir, f.Name)
	var err error
	switch f.kind() {
	case tar.TypeDir:
		err = os.MkdirAll(path, 0o755)
	case tar.TypeReg:
		err = os.WriteFile(path, f.Data, 0o644)
	case tar.TypeLink:
		return os.Link(filepath.Join(dir, f.Link), path)
	case tar.TypeSymlink:
		err = os.Symlink(f.Link, path)
	default:
		return mknod(path, f)
	}
	if err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := os.Lchown(path, f.UID, f.GID); err != nil {
			return err
		}
	}
	if f.kind() == tar.TypeSymlink {
		return nil
	}
	return chmod(path, f.mode()) // after chown, which drops setuid
}
