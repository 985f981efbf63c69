package file

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os/exec"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/testenv"
)

// packed is what several programs make of the archive.
func packed(t *testing.T, plain []byte) map[string][]byte {
	t.Helper()
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	w.Write(plain)
	w.Close()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{"tar": plain, "gzip": gz.Bytes(), "zstd": enc.EncodeAll(plain, nil)}
	for _, name := range []string{"bzip2", "xz"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Logf("no program %s: not tried", name)
			continue
		}
		cmd := exec.Command(path, "-c")
		cmd.Stdin = bytes.NewReader(plain)
		if all[name], err = cmd.Output(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// add is what ADD asks for.
func add(source, target string, more ...func(*op.Copy)) op.Action {
	return cp(0, source, target, append(more, func(c *op.Copy) { c.Unpack = true })...)
}

func TestUnpack(t *testing.T) {
	testenv.Root(t)
	plain := testenv.Tar(t, files{
		{Name: "./", Mode: 0o711, UID: 1, GID: 1}, {Name: "deep/f", Data: []byte("F"), UID: 2, GID: 3, Mode: 0o4755},
		{Name: "g", Type: tar.TypeLink, Link: "deep/f", UID: 2, GID: 3, Mode: 0o4755}, {Name: "l", Link: "/etc"}, {Name: ".wh.x", Data: []byte("no whiteout")},
	})
	for name, data := range packed(t, plain) {
		t.Run(name, func(t *testing.T) {
			b := newBuild(t, nil, files{{Name: "a", Data: data}})
			if err := b.do(t, add("/a", "/x/y/")); err != nil {
				t.Fatal(err)
			}
			same(t, b.tree(t), "x 755 0:0 dir", "x/y 711 1:1 dir", "x/y/deep 755 0:0 dir", `x/y/deep/f 4755 2:3 "F"`, "x/y/g is x/y/deep/f", "x/y/l -> /etc", `x/y/.wh.x 644 0:0 "no whiteout"`)
		})
	}
	t.Run("owner", func(t *testing.T) {
		b := newBuild(t, nil, files{{Name: "a", Data: plain}})
		if err := b.do(t, add("/a", "/x", func(c *op.Copy) { c.Owner = &op.Owner{User: &op.ID{Number: 9}} })); err != nil {
			t.Fatal(err)
		}
		same(t, b.tree(t), "x 711 9:9 dir", "x/deep 755 0:0 dir", `x/deep/f 4755 9:9 "F"`, "x/g is x/deep/f", "x/l -> /etc", `x/.wh.x 644 9:9 "no whiteout"`)
	})
	t.Run("rooted", func(t *testing.T) {
		b := newBuild(t, nil, files{{Name: "a", Data: plain, UID: 7, GID: 8}, {Name: "b", Data: []byte("b"), UID: 7, GID: 8}})
		b.opts.Rooted = []bool{true}
		if err := b.do(t, add("/a", "/x/"), add("/b", "/b")); err != nil {
			t.Fatal(err)
		}
		same(t, b.tree(t), "x 711 1:1 dir", "x/deep 755 0:0 dir", `x/deep/f 4755 2:3 "F"`, "x/g is x/deep/f", "x/l -> /etc", `x/.wh.x 644 0:0 "no whiteout"`, `b 644 0:0 "b"`)
	})
	t.Run("no archive", func(t *testing.T) {
		cut := packed(t, plain)["gzip"][:20]
		b := newBuild(t, nil, files{{Name: "empty"}, {Name: "text", Data: []byte("text")}, {Name: "cut", Data: cut}, {Name: "d/"}, {Name: "d/a", Data: plain[:100]}})
		if err := b.do(t, add("/empty", "/"), add("/text", "/t"), add("/cut", "/"), add("/d", "/d/")); err != nil {
			t.Fatal(err)
		}
		if got := b.tree(t); len(got) != 5 {
			t.Errorf("the tree is %q", got)
		}
	})
	t.Run("missing", func(t *testing.T) {
		wantMissing(t, newBuild(t, nil, files{{Name: "d"}}).do(t, add("/d/a", "/")), "/d/a")
	})
	t.Run("damaged", func(t *testing.T) {
		b := newBuild(t, nil, files{{Name: "a", Data: plain[:1600]}})
		wantPlain(t, b.do(t, add("/a", "/")), "archive")
	})
	t.Run("several", func(t *testing.T) {
		b := newBuild(t, nil, files{{Name: "a.tar", Data: testenv.Tar(t, files{{Name: "one"}})}, {Name: "b.tar", Data: testenv.Tar(t, files{{Name: "two"}})}, {Name: "c.tar", Data: []byte("c")}})
		if err := b.do(t, add("/*.tar", "/x/")); err != nil {
			t.Fatal(err)
		}
		same(t, b.tree(t), "x 755 0:0 dir", `x/one 644 0:0 ""`, `x/two 644 0:0 ""`, `x/c.tar 644 0:0 "c"`)
	})
}

// A link of the image, or of the archive, that leads out leads nowhere.
func TestUnpackHostile(t *testing.T) {
	testenv.Root(t)
	out := testenv.Dir(t)
	b := newBuild(t, files{{Name: "x/"}, {Name: "x/up", Link: "../../../../../../../.." + out}, {Name: "abs", Link: out}},
		files{{Name: "a", Data: testenv.Tar(t, files{{Name: "up/one"}, {Name: "l", Link: out}, {Name: "l/two"}, {Name: "../../three"}})}})
	if err := b.do(t, cpAdd(1, "/a", "/x/"), cpAdd(1, "/a", "/abs/")); err != nil {
		t.Fatal(err)
	}
	if got := list(t, out); len(got) > 0 {
		t.Errorf("written outside: %q", got)
	}
}

func cpAdd(from int, source, target string) op.Action {
	return cp(from, source, target, func(c *op.Copy) { c.Unpack = true })
}
