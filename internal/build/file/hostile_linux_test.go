package file

import (
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/testenv"
)

// The lowest layer of an image may delete what is not there, and an overlay
// leaves notes in what was its upper directory: none of it is to be copied.
func TestWhiteoutsOfTheSource(t *testing.T) {
	testenv.Root(t)
	b := newBuild(t, nil, files{{Name: "d/"}, {Name: "d/.wh..wh..opq"}, {Name: "d/.wh.x"}, {Name: "d/f", Data: []byte("F")}})
	if err := b.do(t, cp(0, "/", "/")); err != nil {
		t.Fatal(err)
	}
	same(t, b.tree(t), "d 755 0:0 dir", `d/f 644 0:0 "F"`)
	noNotes(t, b.opts.Upper)
}

// The layers of an input are seen as one tree.
func TestSeveralLayers(t *testing.T) {
	testenv.Root(t)
	for _, base := range []files{nil, {{Name: "d/"}, {Name: "d/x", Data: []byte("kept")}}} {
		b := newBuild(t, base, nil)
		in := len(b.opts.Inputs) - 1
		b.opts.Inputs[in] = []string{
			layer(t, files{{Name: "d/"}, {Name: "d/.wh.x"}, {Name: "e/"}, {Name: "e/.wh..wh..opq"}, {Name: "e/new"}}),
			layer(t, files{{Name: "d/"}, {Name: "d/x", Data: []byte("deleted")}, {Name: "d/f", Data: []byte("F")}, {Name: "e/"}, {Name: "e/old"}}),
		}
		if err := b.do(t, cp(in, "/", "/")); err != nil {
			t.Fatal(err)
		}
		want := []string{"d 755 0:0 dir", `d/f 644 0:0 "F"`, "e 755 0:0 dir", `e/new 644 0:0 ""`}
		if base != nil {
			want = append(want, `d/x 644 0:0 "kept"`)
		} else {
			noNotes(t, b.opts.Upper)
		}
		same(t, b.tree(t), want...)
	}
}

func TestNotesOfTheSource(t *testing.T) {
	testenv.Root(t)
	b := newBuild(t, nil, files{{Name: "d/"}, {Name: "d/.wh..wh..opq"}, {Name: "d/f", Data: []byte("F"), Xattrs: map[string]string{"user.mine": "1"}}})
	if err := unix.Setxattr(b.opts.Inputs[0][0]+"/d/f", "trusted.overlay.origin", []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	if err := b.do(t, cp(0, "/", "/")); err != nil {
		t.Fatal(err)
	}
	same(t, b.tree(t), "d 755 0:0 dir", `d/f 644 0:0 "F"`)
	noNotes(t, b.opts.Upper)
	buf := make([]byte, 10)
	if n, err := unix.Getxattr(b.opts.Upper+"/d/f", "user.mine", buf); err != nil || string(buf[:n]) != "1" {
		t.Errorf("the file's own attribute is %q, %v", buf[:max(n, 0)], err)
	}
}

// noNotes fails for what only an overlay understands in a layer on scratch.
func noNotes(t *testing.T, dir string) {
	t.Helper()
	filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		buf := make([]byte, 1000)
		n, _ := unix.Llistxattr(p, buf)
		if bytes.Contains(buf[:max(n, 0)], []byte("trusted.overlay.opaque")) || bytes.Contains(buf[:max(n, 0)], []byte("trusted.overlay.origin")) {
			t.Errorf("%s has %q", strings.TrimPrefix(p, dir), buf[:n])
		}
		return nil
	})
}

func TestHostileLinks(t *testing.T) {
	testenv.Root(t)
	out := testenv.Dir(t)
	if err := os.WriteFile(out+"/secret", []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("../", 20)
	src := files{{Name: "abs", Link: out}, {Name: "up", Link: up + out[1:]}, {Name: "file", Link: out + "/secret"}, {Name: "pr", Link: "/proc/self/root" + out}, {Name: "d/"}, {Name: "d/f"}, {Name: "f"}}
	for _, name := range []string{"/abs/secret", "/up/secret", "/file", "/pr/secret", "/abs", "/up", "/../.." + out + "/secret"} {
		b := newBuild(t, nil, src)
		wantMissing(t, b.do(t, cp(0, name, "/")), filepath.Clean(name))
	}
	for _, target := range []string{"/abs/", "/abs/x", "/up/", "/up/x/y", "/pr/", "/file", "/../../" + out + "/"} {
		for _, source := range []string{"/f", "/d"} {
			b := newBuild(t, src, src)
			b.do(t, cp(1, source, target)) // may fail: a directory where a link is
			if got := list(t, out); len(got) != 1 {
				t.Fatalf("%s to %s was written outside: %q", source, target, got)
			}
		}
	}
	b := newBuild(t, src)
	b.do(t, op.Action{Mkfile: &op.Mkfile{Path: "/file", Data: []byte("x"), Mode: 0o644}},
		op.Action{Mkdir: &op.Mkdir{Path: "/up/dir", Mode: 0o755, Parents: true}},
		op.Action{Symlink: &op.Symlink{Target: "x", Path: "/abs/link"}},
		op.Action{Remove: &op.Remove{Path: "/abs/secret", AllowMissing: true}},
		op.Action{Remove: &op.Remove{Path: "/up/*", Wildcards: true}})
	same(t, list(t, out), `secret 600 0:0 "secret"`)
}

// A mount in a build context is a part of it.
func TestMountInContext(t *testing.T) {
	testenv.Root(t)
	b := newBuild(t, files{{Name: "x"}}, files{{Name: "m/"}})
	dir := b.opts.Inputs[1][0] + "/m"
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, 0)
	if err := os.WriteFile(dir+"/f", []byte("F"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := b.do(t, cp(1, "/m/f", "/")); err != nil {
		t.Fatal(err)
	}
	same(t, b.tree(t), `f 644 0:0 "F"`, `x 644 0:0 ""`)
}

func TestBigFile(t *testing.T) {
	testenv.Root(t)
	data := make([]byte, 9<<20+123)
	rand.Read(data)
	for _, base := range []files{nil, {{Name: "x"}}} {
		b := newBuild(t, base, files{{Name: "big", Data: data}})
		if err := b.do(t, cp(len(b.opts.Inputs)-1, "/big", "/b")); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(b.opts.Upper + "/b")
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes arrived, %v", len(got), err)
		}
	}
}

// The layer's root is that of the tree below it: whoever lays it on top shows
// it.
func TestRootOfLayer(t *testing.T) {
	testenv.Root(t)
	b := newBuild(t, files{{Name: "./", Mode: 0o1750, UID: 3, GID: 4}, {Name: "x"}})
	if err := b.do(t, op.Action{Mkdir: &op.Mkdir{Path: "/d", Mode: 0o755}}); err != nil {
		t.Fatal(err)
	}
	same(t, b.tree(t), " 1750 3:4 dir", "d 755 0:0 dir", `x 644 0:0 ""`)
}

func FuzzPaths(f *testing.F) {
	for _, s := range []string{"/a", "../../x", "abs/../x/", "/up/./y", "l/l/l", "\x00", strings.Repeat("a/", 200), "", ".", "/.", "*", "[", "a\\*"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, from, to string) {
		testenv.Root(t)
		out := testenv.Dir(t)
		if err := os.WriteFile(out+"/secret", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		tree := files{{Name: "abs", Link: out}, {Name: "up", Link: strings.Repeat("../", 20) + out[1:]}, {Name: "a", Data: []byte("A")}, {Name: "x/"}, {Name: "l", Link: "."}}
		b := newBuild(t, tree)
		for _, a := range []op.Action{
			{Mkfile: &op.Mkfile{Path: to, Data: []byte("x"), Mode: 0o644}}, cp(op.Scratch, from, to), cp(0, from, to),
			{Mkdir: &op.Mkdir{Path: to, Mode: 0o755, Parents: true}}, {Symlink: &op.Symlink{Target: from, Path: to}}, {Remove: &op.Remove{Path: from, Wildcards: true, AllowMissing: true}},
		} {
			b.opts.Upper, b.opts.Work = filepath.Join(testenv.Dir(t), "upper"), filepath.Join(testenv.Dir(t), "work")
			b.opts.Work = b.opts.Upper + ".work"
			b.do(t, a)
			same(t, list(t, out), `secret 600 0:0 ""`)
		}
	})
}
