package file

import (
	"archive/tar"
	"testing"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/testenv"
)

func TestCopy(t *testing.T) {
	testenv.Root(t)
	src := files{
		{Name: "a", Data: []byte("A"), Mode: 0o640, UID: 5, GID: 6},
		{Name: "b.txt", Data: []byte("B")},
		{Name: "c.txt", Data: []byte("C")},
		{Name: "run", Data: []byte("R"), Mode: 0o4755},
		{Name: "d/", Mode: 0o700, UID: 7, GID: 8},
		{Name: "d/x", Data: []byte("X")},
		{Name: "d/sub/", Mode: 0o1777},
		{Name: "d/sub/y", Data: []byte("Y"), Mode: 0o600},
		{Name: "d/sub/y2", Type: tar.TypeLink, Link: "d/sub/y", Mode: 0o600},
		{Name: "d/l", Link: "x"},
		{Name: "d/gone", Link: "/no/such"},
		{Name: "toa", Link: "a"},
		{Name: "tod", Link: "/d"},
		{Name: "fifo", Type: tar.TypeFifo, Mode: 0o622},
	}
	base := files{
		{Name: "etc/"}, {Name: "etc/passwd", Data: []byte("root:x:0:0::/:/bin/sh\nalice:x:1000:1001::/:/bin/sh\n")},
		{Name: "etc/group", Data: []byte("root:x:0:\nstaff:x:50:\n")},
	}
	d := []string{"d 700 7:8 dir", "d/x 644 0:0 \"X\"", "d/sub 1777 0:0 dir", "d/sub/y 600 0:0 \"Y\"", "d/sub/y2 is d/sub/y", "d/l -> x", "d/gone -> /no/such"}
	owned := func(user, group *op.ID) func(*op.Copy) {
		return func(c *op.Copy) { c.Owner = &op.Owner{User: user, Group: group} }
	}
	for _, c := range []struct {
		name    string
		base    files
		actions []op.Action
		want    []string
	}{
		{"file to a name", nil, []op.Action{cp(0, "/a", "/z")}, []string{`z 640 5:6 "A"`}},
		{"file to a directory that is missing", nil, []op.Action{cp(0, "/a", "/p/q/")}, []string{"p 755 0:0 dir", "p/q 755 0:0 dir", `p/q/a 640 5:6 "A"`}},
		{"file to a directory that is there", files{{Name: "p/", Mode: 0o711}}, []op.Action{cp(1, "/a", "/p")}, []string{"p 711 0:0 dir", `p/a 640 5:6 "A"`}},
		{"file over a file", files{{Name: "p", Data: []byte("old"), UID: 9}}, []op.Action{cp(1, "/a", "/p")}, []string{`p 640 5:6 "A"`}},
		{"file over a link", files{{Name: "p", Link: "q"}, {Name: "q", Data: []byte("old")}}, []op.Action{cp(1, "/a", "/p")}, []string{"p -> q", `q 640 5:6 "A"`}},
		{"setuid", nil, []op.Action{cp(0, "/run", "/")}, []string{`run 4755 0:0 "R"`}},
		{"fifo", nil, []op.Action{cp(0, "/fifo", "/")}, []string{"fifo 622 0:0 p--------- 0,0"}},
		{"wildcard", nil, []op.Action{cp(0, "/*.txt", "/t/")}, []string{"t 755 0:0 dir", `t/b.txt 644 0:0 "B"`, `t/c.txt 644 0:0 "C"`}},
		{"wildcard without a match", nil, []op.Action{cp(0, "/no*", "/t/")}, nil},
		{"wildcard below nothing", nil, []op.Action{cp(0, "/nope/*", "/t/")}, nil},
		{"contents of a directory", nil, []op.Action{cp(0, "/d", "/e")}, []string{"e 755 0:0 dir", `e/x 644 0:0 "X"`, "e/sub 1777 0:0 dir", `e/sub/y 600 0:0 "Y"`, "e/sub/y2 is e/sub/y", "e/l -> x", "e/gone -> /no/such"}},
		{"directory itself", files{{Name: "e/"}}, []op.Action{cp(1, "/d", "/e", func(c *op.Copy) { c.Contents = false })},
			[]string{"e 755 0:0 dir", "e/d 700 7:8 dir", `e/d/x 644 0:0 "X"`, "e/d/sub 1777 0:0 dir", `e/d/sub/y 600 0:0 "Y"`, "e/d/sub/y2 is e/d/sub/y", "e/d/l -> x", "e/d/gone -> /no/such"}},
		{"contents into what is there", files{{Name: "e/", Mode: 0o711}, {Name: "e/x", Data: []byte("old")}, {Name: "e/sub/", Mode: 0o700}, {Name: "e/keep", Data: []byte("k")}}, []op.Action{cp(1, "/d/", "/e/")},
			[]string{"e 711 0:0 dir", `e/x 644 0:0 "X"`, `e/keep 644 0:0 "k"`, "e/sub 1777 0:0 dir", `e/sub/y 600 0:0 "Y"`, "e/sub/y2 is e/sub/y", "e/l -> x", "e/gone -> /no/such"}},
		{"link that is named is followed", nil, []op.Action{cp(0, "/toa", "/z")}, []string{`z 640 5:6 "A"`}},
		{"link that is named stays", nil, []op.Action{cp(0, "/toa", "/z", func(c *op.Copy) { c.FollowLinks = false })}, []string{"z -> a"}},
		{"link to a directory", nil, []op.Action{cp(0, "/tod/sub/y", "/z")}, []string{`z 600 0:0 "Y"`}},
		{"mode", nil, []op.Action{cp(0, "/d/sub/y", "/p/", func(c *op.Copy) { c.HasMode, c.Mode = true, 0o2751 })}, []string{"p 751 0:0 dir", `p/y 2751 0:0 "Y"`}},
		{"mode 0", nil, []op.Action{cp(0, "/a", "/z", func(c *op.Copy) { c.HasMode = true })}, []string{`z 0 5:6 "A"`}},
		{"mode text", nil, []op.Action{cp(0, "/d/sub", "/s", func(c *op.Copy) { c.ModeText = "u=rwX,go=rX" })}, []string{"s 755 0:0 dir", `s/y 644 0:0 "Y"`, "s/y2 is s/y"}},
		{"owner by number", nil, []op.Action{cp(0, "/d/sub", "/s", owned(&op.ID{Number: 12}, nil))}, []string{"s 755 12:12 dir", `s/y 600 12:12 "Y"`, "s/y2 is s/y"}},
		{"owner and group", nil, []op.Action{cp(0, "/a", "/p/z", owned(&op.ID{Number: 12}, &op.ID{Number: 13}))}, []string{"p 755 12:13 dir", `p/z 640 12:13 "A"`}},
		{"owner by name", base, []op.Action{cp(1, "/a", "/z", owned(&op.ID{Name: "alice", Input: 0}, nil))}, []string{"etc 755 0:0 dir", "etc/group 644 0:0 " + `"root:x:0:\nstaff:x:50:\n"`, `etc/passwd 644 0:0 "root:x:0:0::/:/bin/sh\nalice:x:"`, `z 640 1000:1001 "A"`}},
		{"group by name, of the tree itself", nil, []op.Action{
			{Mkdir: &op.Mkdir{Path: "/etc", Mode: 0o755}}, {Mkfile: &op.Mkfile{Path: "/etc/group", Mode: 0o644, Data: []byte("staff:x:50:\n")}},
			cp(0, "/a", "/z", owned(&op.ID{Name: "nobody", Input: op.Scratch}, &op.ID{Name: "staff", Input: op.Scratch}))},
			[]string{"etc 755 0:0 dir", `etc/group 644 0:0 "staff:x:50:\n"`, `z 640 0:50 "A"`}},
		{"exclude", nil, []op.Action{cp(0, "/d", "/", func(c *op.Copy) { c.Exclude = []string{"sub", "l", "gone"} })}, []string{`x 644 0:0 "X"`}},
		{"exclude but", nil, []op.Action{cp(0, "/d", "/", func(c *op.Copy) { c.Exclude = []string{"**", "!sub/y2"} })}, []string{"sub 1777 0:0 dir", `sub/y2 600 0:0 "Y"`}},
		{"parents", nil, []op.Action{cp(0, "/", "/p/", func(c *op.Copy) {
			c.Include, c.Required = []string{"d/sub/y"}, []string{"/d/sub/y"}
		})},
			[]string{"p 755 0:0 dir", "p/d 700 7:8 dir", "p/d/sub 1777 0:0 dir", `p/d/sub/y 600 0:0 "Y"`}},
		{"parents from a pivot", nil, []op.Action{cp(0, "/d", "/p/", func(c *op.Copy) { c.Include, c.Required = []string{"sub/y"}, []string{"/d/sub/y"} })},
			[]string{"p 755 0:0 dir", "p/sub 1777 0:0 dir", `p/sub/y 600 0:0 "Y"`}},
		{"from the tree itself", nil, []op.Action{cp(0, "/a", "/one"), cp(op.Scratch, "/one", "/two")}, []string{`one 640 5:6 "A"`, `two 640 5:6 "A"`}},
		{"replace a directory", files{{Name: "x/"}, {Name: "x/deep", Data: []byte("1")}}, []op.Action{cp(1, "/d", "/", func(c *op.Copy) { c.Replace, c.Exclude = true, []string{"sub", "l", "gone"} })}, []string{`x 644 0:0 "X"`}},
		{"target through a link", files{{Name: "usr/"}, {Name: "usr/lib/"}, {Name: "lib", Link: "usr/lib"}}, []op.Action{cp(1, "/a", "/lib/")}, []string{"lib -> usr/lib", "usr 755 0:0 dir", "usr/lib 755 0:0 dir", `usr/lib/a 640 5:6 "A"`}},
		{"whole tree", nil, []op.Action{cp(0, "/", "/", func(c *op.Copy) { c.Exclude = []string{"*.txt", "run", "to*", "fifo", "a"} })}, d},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBuild(t, c.base, src)
			if err := b.do(t, c.actions...); err != nil {
				t.Fatal(err)
			}
			same(t, b.tree(t), c.want...)
		})
	}
}

func TestCopyFailures(t *testing.T) {
	testenv.Root(t)
	src := files{{Name: "d/"}, {Name: "d/f", Data: []byte("F")}, {Name: "dangling", Link: "/no"}, {Name: "loop", Link: "loop"}}
	base := files{{Name: "f", Data: []byte("f")}, {Name: "full/"}, {Name: "full/f/"}}
	for _, c := range []struct {
		name    string
		action  op.Action
		missing string // not found; else any error
		text    string
	}{
		{"missing", cp(1, "/foo", "/"), "/foo", ""},
		{"missing, without wildcards", cp(1, "/foo/bar", "/", func(c *op.Copy) { c.Wildcards = false }), "/foo/bar", ""},
		{"below a file", cp(1, "/d/f/x", "/"), "/d/f/x", ""},
		{"dangling link", cp(1, "/dangling", "/"), "/dangling", ""},
		{"no match", cp(1, "/x*", "/", func(c *op.Copy) { c.AllowNoMatch = false }), "/x*", ""},
		{"required", cp(1, "/", "/", func(c *op.Copy) { c.Include, c.Required = []string{"d/g"}, []string{"/d/g"} }), "/d/g", ""},
		{"required but excluded", cp(1, "/", "/", func(c *op.Copy) {
			c.Include, c.Required, c.Exclude = []string{"d/f"}, []string{"/d/f"}, []string{"d"}
		}), "/d/f", ""},
		{"empty input", cp(op.Scratch, "/d", "/x"), "/d", ""},
		{"loop", cp(1, "/loop", "/"), "", "too many"},
		{"directory over a file", cp(1, "/d", "/f"), "", "/f"},
		{"file over a directory", cp(1, "/d", "/full/"), "", "/full/f"},
		{"no such input", cp(7, "/d", "/"), "", "input 7"},
		{"bad pattern", cp(1, "/d", "/", func(c *op.Copy) { c.Include = []string{"[a"} }), "", "include"},
		{"bad mode", cp(1, "/d", "/x", func(c *op.Copy) { c.ModeText = "zz" }), "", ""},
		{"no directory for it", cp(1, "/d/f", "/no/where/f", func(c *op.Copy) { c.MakeTarget = false }), "", "/no/where"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBuild(t, base, src)
			err := b.do(t, c.action)
			if c.missing != "" {
				wantMissing(t, err, c.missing)
				return
			}
			wantPlain(t, err, c.text)
		})
	}
}
