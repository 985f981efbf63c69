package tree

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func needRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("owners, devices and overlays need root")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func of(t *testing.T, dir string) digest.Digest {
	t.Helper()
	d, err := Digest(context.Background(), dir)
	must(t, err)
	return d
}

// sample makes a tree with all that a layer can hold. With reverse, the names
// come into being in another order.
func sample(t *testing.T, reverse bool) string {
	dir := t.TempDir()
	in := func(n string) string { return filepath.Join(dir, n) }
	must(t, os.Mkdir(in("d"), 0o755))
	steps := []func() error{
		func() error { return os.WriteFile(in("a"), []byte("text"), 0o644) },
		func() error { return os.WriteFile(in("d/big"), make([]byte, 300<<10), 0o600) },
		func() error { return os.WriteFile(in("d/new\nline"), nil, 0o644) },
		func() error { return os.Symlink("a", in("s")) },
		func() error { return unix.Mknod(in("w"), unix.S_IFCHR, 0) },
		func() error { return unix.Mknod(in("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) },
		func() error { return unix.Mkfifo(in("fifo"), 0o600) },
		func() error { return os.Mkdir(in("d/o"), 0o700) },
	}
	for i := range steps {
		if reverse {
			i = len(steps) - 1 - i
		}
		must(t, steps[i]())
	}
	must(t, os.Link(in("a"), in("d/a2")))
	must(t, os.Chown(in("d/big"), 7, 8))
	must(t, unix.Setxattr(in("d/o"), "trusted.overlay.opaque", []byte("y"), 0))
	return dir
}

func TestSameTree(t *testing.T) {
	needRoot(t)
	a, b := sample(t, false), sample(t, true)
	must(t, os.Chtimes(filepath.Join(b, "a"), time.Unix(1, 0), time.Unix(2, 0)))
	must(t, unix.Setxattr(filepath.Join(b, "d"), "trusted.overlay.origin", []byte("x"), 0))
	if of(t, a) != of(t, b) {
		t.Error("times, the order of names or origins of overlayfs count")
	}
}

func TestAllThatCounts(t *testing.T) {
	needRoot(t)
	changes := map[string]func(in func(string) string) error{
		"content": func(in func(string) string) error { return os.WriteFile(in("a"), []byte("Text"), 0) },
		"one bit of a big file": func(in func(string) string) error {
			b := make([]byte, 300<<10)
			b[299<<10] = 1
			return os.WriteFile(in("d/big"), b, 0)
		},
		"mode":        func(in func(string) string) error { return os.Chmod(in("a"), 0o600) },
		"setuid":      func(in func(string) string) error { return unix.Chmod(in("a"), 0o4644) },
		"root's mode": func(in func(string) string) error { return os.Chmod(in(""), 0o711) },
		"owner":       func(in func(string) string) error { return os.Lchown(in("s"), 1, 0) },
		"group":       func(in func(string) string) error { return os.Lchown(in("s"), 0, 1) },
		"name":        func(in func(string) string) error { return os.Rename(in("a"), in("A")) },
		"place":       func(in func(string) string) error { return os.Rename(in("s"), in("d/s")) },
		"file for link": func(in func(string) string) error {
			return errors.Join(os.Remove(in("s")), os.WriteFile(in("s"), []byte("a"), 0o777))
		},
		"link's target": func(in func(string) string) error {
			return errors.Join(os.Remove(in("s")), os.Symlink("d/a2", in("s")))
		},
		"device number": func(in func(string) string) error {
			return errors.Join(os.Remove(in("null")), unix.Mknod(in("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
		},
		"kind of device": func(in func(string) string) error {
			return errors.Join(os.Remove(in("null")), unix.Mknod(in("null"), unix.S_IFBLK|0o666, int(unix.Mkdev(1, 3))))
		},
		"whiteout":  func(in func(string) string) error { return os.Remove(in("w")) },
		"opaque":    func(in func(string) string) error { return unix.Removexattr(in("d/o"), "trusted.overlay.opaque") },
		"attribute": func(in func(string) string) error { return unix.Setxattr(in("a"), "user.x", []byte("1"), 0) },
		"of a link": func(in func(string) string) error { return unix.Lsetxattr(in("s"), "trusted.x", []byte("1"), 0) },
		"capability": func(in func(string) string) error {
			return unix.Setxattr(in("a"), "security.capability", capability, 0)
		},
		"hard link": func(in func(string) string) error {
			return errors.Join(os.Remove(in("d/a2")), os.WriteFile(in("d/a2"), []byte("text"), 0o644))
		},
	}
	before := of(t, sample(t, false))
	seen := map[digest.Digest]string{before: "nothing"}
	for name, change := range changes {
		dir := sample(t, false)
		must(t, change(func(n string) string { return filepath.Join(dir, n) }))
		d := of(t, dir)
		if other, ok := seen[d]; ok {
			t.Errorf("a change of %s gives the digest of a change of %s", name, other)
		}
		seen[d] = name
	}
}

// capability is cap_net_raw+ep as the kernel keeps it, version 2.
var capability = []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// A hard link to a file outside of the tree is a file like another.
func TestForeignLinks(t *testing.T) {
	a, b, out := t.TempDir(), t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(a, "f"), []byte("x"), 0o644))
	must(t, os.WriteFile(filepath.Join(b, "f"), []byte("x"), 0o644))
	must(t, os.Link(filepath.Join(b, "f"), filepath.Join(out, "f")))
	if of(t, a) != of(t, b) {
		t.Error("a name elsewhere changes the digest")
	}
}

func TestSelected(t *testing.T) {
	needRoot(t)
	top, bottom := t.TempDir(), t.TempDir()
	for _, d := range []string{"src/sub", "opt"} {
		must(t, os.MkdirAll(filepath.Join(bottom, d), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(bottom, "src/a"), []byte("old"), 0o644))
	must(t, os.WriteFile(filepath.Join(bottom, "src/gone"), nil, 0o644))
	must(t, os.Symlink("/src", filepath.Join(bottom, "opt/link")))
	must(t, os.Mkdir(filepath.Join(top, "src"), 0o755))
	must(t, os.WriteFile(filepath.Join(top, "src/a"), []byte("new"), 0o644))
	must(t, unix.Mknod(filepath.Join(top, "src/gone"), unix.S_IFCHR, 0))

	plain := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(plain, "src/sub"), 0o755))
	must(t, os.WriteFile(filepath.Join(plain, "src/a"), []byte("new"), 0o644))
	get := func(lowers []string, path string) digest.Digest {
		t.Helper()
		d, err := Selected(context.Background(), lowers, path)
		must(t, err)
		return d
	}
	both := []string{top, bottom}
	want := get([]string{plain}, "/src")
	for _, path := range []string{"/src", "src/", "opt/link", "/opt/../src"} {
		if got := get(both, path); got != want {
			t.Errorf("%s: %s instead of %s", path, got, want)
		}
	}
	if get([]string{bottom}, "src") == want || get(both, "") == want {
		t.Error("another tree has the same digest")
	}
	if get(both, "opt/link/a") != get([]string{plain}, "src/a") {
		t.Error("a file differs")
	}
	_, err := Selected(context.Background(), both, "src/gone")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
	if _, err := Selected(context.Background(), nil, "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in an empty tree: %v", err)
	}
	if get(nil, "/") != get([]string{t.TempDir()}, "") {
		t.Error("no tree is not an empty tree")
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Digest(ctx, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
