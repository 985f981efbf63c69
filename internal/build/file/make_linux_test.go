package file

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/testenv"
)

// wantPlain checks for an error that does not look like a missing source and
// tells nothing of this machine.
func wantPlain(t testing.TB, err error, text string) {
	t.Helper()
	if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), os.TempDir()) || strings.Contains(err.Error(), "/proc/") {
		t.Errorf("error %v, want one with %q", err, text)
	}
}

func TestMake(t *testing.T) {
	testenv.Root(t)
	base := files{{Name: "d/", Mode: 0o700}, {Name: "f", Data: []byte("f")}, {Name: "l", Link: "d"}, {Name: "out", Link: "../../../../tmp"}}
	kept := []string{"d 700 0:0 dir", `f 644 0:0 "f"`, "l -> d", "out -> ../../../../tmp"}
	mine := &op.Owner{User: &op.ID{Number: 3}, Group: &op.ID{Number: 4}}
	for _, c := range []struct {
		name    string
		action  op.Action
		more    []string // besides what is kept
		less    []string
		missing string
		failure string
	}{
		{name: "mkdir", action: op.Action{Mkdir: &op.Mkdir{Path: "/n", Mode: 0o1777, Owner: mine}}, more: []string{"n 777 3:4 dir"}},
		{name: "mkdir parents", action: op.Action{Mkdir: &op.Mkdir{Path: "/l/a/b", Mode: 0o750, Owner: mine, Parents: true}}, more: []string{"d/a 750 3:4 dir", "d/a/b 750 3:4 dir"}},
		{name: "mkdir that exists", action: op.Action{Mkdir: &op.Mkdir{Path: "/d", Mode: 0o755, Owner: mine}}},
		{name: "mkdir parents that exists", action: op.Action{Mkdir: &op.Mkdir{Path: "/d", Mode: 0o755, Parents: true}}},
		{name: "mkdir below nothing", action: op.Action{Mkdir: &op.Mkdir{Path: "/x/y", Mode: 0o755}}, failure: "/x/y"},
		{name: "mkdir below a file", action: op.Action{Mkdir: &op.Mkdir{Path: "/f/y", Mode: 0o755, Parents: true}}, failure: "/f"},
		{name: "mkdir climbs", action: op.Action{Mkdir: &op.Mkdir{Path: "/../out/../../n", Mode: 0o755, Parents: true}}, more: []string{"n 755 0:0 dir"}},
		{name: "mkdir through a link out", action: op.Action{Mkdir: &op.Mkdir{Path: "/out/n", Mode: 0o755, Parents: true}}, more: []string{"tmp 755 0:0 dir", "tmp/n 755 0:0 dir"}},
		{name: "mkfile", action: op.Action{Mkfile: &op.Mkfile{Path: "/d/n", Mode: 0o4751, Data: []byte("data"), Owner: mine}}, more: []string{`d/n 751 3:4 "data"`}},
		{name: "mkfile over a file", action: op.Action{Mkfile: &op.Mkfile{Path: "f", Mode: 0o600, Data: []byte("new")}}, more: []string{`f 600 0:0 "new"`}, less: []string{`f 644 0:0 "f"`}},
		{name: "mkfile over a directory", action: op.Action{Mkfile: &op.Mkfile{Path: "/d", Mode: 0o600}}, failure: "/d"},
		{name: "mkfile at the root", action: op.Action{Mkfile: &op.Mkfile{Path: "/.."}}, failure: "directory"},
		{name: "mkfile below nothing", action: op.Action{Mkfile: &op.Mkfile{Path: "/x/y"}}, failure: "/x/y"},
		{name: "symlink", action: op.Action{Symlink: &op.Symlink{Target: "../x", Path: "/d/n", Owner: mine}}, more: []string{"d/n -> ../x"}},
		{name: "symlink over a file", action: op.Action{Symlink: &op.Symlink{Target: "x", Path: "/f"}}, failure: "/f"},
		{name: "remove a directory", action: op.Action{Remove: &op.Remove{Path: "/d"}}, less: []string{"d 700 0:0 dir"}},
		{name: "remove a link", action: op.Action{Remove: &op.Remove{Path: "/l"}}, less: []string{"l -> d"}},
		{name: "remove nothing", action: op.Action{Remove: &op.Remove{Path: "/n"}}, missing: "/n"},
		{name: "remove what may be missing", action: op.Action{Remove: &op.Remove{Path: "/n/m", AllowMissing: true}}},
		{name: "remove by wildcard", action: op.Action{Remove: &op.Remove{Path: "/[dfl]", Wildcards: true}}, less: kept[:3]},
		{name: "remove the root", action: op.Action{Remove: &op.Remove{Path: "/"}}, failure: "root"},
		{name: "nothing", action: op.Action{}, failure: "says nothing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBuild(t, base)
			switch err := b.do(t, c.action); {
			case c.missing != "":
				wantMissing(t, err, c.missing)
			case c.failure != "":
				wantPlain(t, err, c.failure)
			case err != nil:
				t.Fatal(err)
			}
			want := append([]string{}, c.more...)
			for _, line := range kept {
				if !strings.Contains("\n"+strings.Join(c.less, "\n")+"\n", "\n"+line+"\n") {
					want = append(want, line)
				}
			}
			same(t, b.tree(t), want...)
		})
	}
}

func TestTimes(t *testing.T) {
	testenv.Root(t)
	b := newBuild(t, nil, files{{Name: "a", Data: []byte("A")}})
	epoch := time.Unix(1700000000, 0)
	b.opts.Epoch = &epoch
	own := int64(1600000000_000000005)
	err := b.do(t,
		op.Action{Mkdir: &op.Mkdir{Path: "/dir", Mode: 0o755}},
		op.Action{Mkfile: &op.Mkfile{Path: "/dir/file", Mode: 0o644, Time: &own}},
		op.Action{Symlink: &op.Symlink{Target: "x", Path: "/link"}},
		op.Action{Mkdir: &op.Mkdir{Path: "/dir2/dir3", Mode: 0o755, Parents: true}},
		cp(0, "/a", "/kept"), cp(0, "/a", "/new/made", func(c *op.Copy) { c.Time = &own }), cp(0, "/a", "/fresh/kept"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]time.Time{
		"link": epoch, "dir/file": time.Unix(0, own), "dir2/dir3": epoch, "kept": testenv.Epoch,
		"new": time.Unix(0, own), "new/made": time.Unix(0, own), "fresh": epoch, "fresh/kept": testenv.Epoch,
	} {
		fi, err := os.Lstat(b.opts.Upper + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if !fi.ModTime().Equal(want) {
			t.Errorf("%s is of %v, want %v", name, fi.ModTime().UTC(), want.UTC())
		}
	}
}

func TestCancelled(t *testing.T) {
	testenv.Root(t)
	b := newBuild(t, nil, files{{Name: "a"}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := Do(ctx, &op.File{Base: op.Scratch, Actions: []op.Action{cp(0, "/a", "/")}}, &b.opts)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
