package file

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/archive"
	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/overlay"
	"github.com/amphora-go/amphora/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

type files = []testenv.File

// layer makes a directory that holds the files, whiteouts as an overlay has
// them.
func layer(t testing.TB, list files) string {
	t.Helper()
	dir := filepath.Join(testenv.Dir(t), "diff")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Apply(t.Context(), dir, bytes.NewReader(testenv.Tar(t, list)), nil); err != nil {
		t.Fatal(err)
	}
	return dir
}

// build does the actions on the first of the layers, if any, and returns what
// the tree is then.
type build struct {
	opts  Options
	base  int
	lower []string
}

func newBuild(t testing.TB, base files, inputs ...files) *build {
	t.Helper()
	dir := testenv.Dir(t)
	b := &build{base: op.Scratch, opts: Options{Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work")}}
	if base != nil {
		b.base, b.lower = 0, []string{layer(t, base)}
		b.opts.Inputs = append(b.opts.Inputs, b.lower)
	}
	for _, in := range inputs {
		b.opts.Inputs = append(b.opts.Inputs, []string{layer(t, in)})
	}
	return b
}

func (b *build) do(t testing.TB, actions ...op.Action) error {
	t.Helper()
	return Do(t.Context(), &op.File{Base: b.base, Actions: actions}, &b.opts)
}

func (b *build) tree(t testing.TB) []string {
	t.Helper()
	if b.lower == nil {
		return list(t, b.opts.Upper)
	}
	f, err := overlay.Open(overlay.Layers{Lower: append([]string{b.opts.Upper}, b.lower...)})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return list(t, fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
}

// list describes a tree: a line for each file, in order.
func list(t testing.TB, root string) (lines []string) {
	t.Helper()
	linked := map[uint64]string{}
	err := filepath.WalkDir(root+"/", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		name := strings.TrimLeft(strings.TrimPrefix(p, root), "/")
		st := fi.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%s %o %d:%d", name, st.Mode&0o7777, st.Uid, st.Gid)
		switch {
		case fi.IsDir():
			line += " dir"
		case fi.Mode().IsRegular():
			if st.Nlink > 1 {
				if first := linked[st.Ino]; first != "" {
					lines = append(lines, name+" is "+first)
					return nil
				}
				linked[st.Ino] = name
			}
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %.30q", data)
		case fi.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			line = name + " -> " + to
		default:
			line += fmt.Sprintf(" %v %d,%d", fi.Mode().Type(), unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	if len(lines) > 0 && strings.HasPrefix(lines[0], " 755 0:0 dir") {
		lines = lines[1:] // the root, as it should be
	}
	return lines
}

func same(t testing.TB, got []string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the tree is\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// wantMissing checks the error for a source that is not there.
func wantMissing(t testing.TB, err error, name string) {
	t.Helper()
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), fmt.Sprintf("%q: not found", name)) {
		t.Errorf("error %v, want %q: not found", err, name)
	}
}

// cp is what COPY asks for.
func cp(from int, source, target string, more ...func(*op.Copy)) op.Action {
	c := &op.Copy{From: from, Source: source, Target: target, FollowLinks: true, Contents: true, MakeTarget: true, Wildcards: true, AllowNoMatch: true}
	for _, f := range more {
		f(c)
	}
	return op.Action{Copy: c}
}
