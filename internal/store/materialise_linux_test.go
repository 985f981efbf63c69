package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/archive"
	"github.com/amphora-go/amphora/internal/overlay"
)

// script makes the tree of a layer by hand, in the form that overlay reads.
func script(t *testing.T, dir string, lines ...string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range lines {
		f := strings.Fields(line)
		path := filepath.Join(dir, f[1])
		switch f[0] {
		case "dir":
			must(os.MkdirAll(path, 0o755))
		case "file":
			must(os.WriteFile(path, []byte(f[2]), 0o640))
			must(os.Chown(path, 1000, 1001))
		case "suid":
			must(os.WriteFile(path, []byte("x"), 0o755))
			must(unix.Chmod(path, 0o4755))
		case "link":
			must(os.Symlink(f[2], path))
		case "hard":
			must(os.Link(filepath.Join(dir, f[2]), path))
		case "gone":
			must(unix.Mknod(path, unix.S_IFCHR, 0))
		case "opaque":
			must(unix.Setxattr(path, "trusted.overlay.opaque", []byte("y"), 0))
		case "attr":
			must(unix.Setxattr(path, "trusted.test", []byte(f[2]), 0))
		case "pipe":
			must(unix.Mkfifo(path, 0o620))
		case "dev":
			must(unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
		case "sparse":
			h, err := os.Create(path)
			must(err)
			_, err = h.WriteAt([]byte("end"), 1<<20)
			must(errors.Join(err, h.Close()))
		case "mode":
			must(os.Chmod(path, 0o700))
		}
	}
}

func TestMaterialiseEqualsOverlay(t *testing.T) {
	if CanUnpack() != nil {
		t.Skip("needs root")
	}
	s := newStore(t)
	if err := s.Init(); err != nil {
		t.Fatal(err)
	}
	layers := [][]string{
		{"dir a/b", "file a/one 1", "file a/b/two 2", "link lib a/b", "suid su", "file x 1", "hard y x", "dir full", "file full/f 1", "dir over", "file over/lower 1", "attr over lower", "dir swap", "file swap/f 1", "pipe fifo"},
		{"dir a", "file a/one changed", "gone x", "gone su", "dir full", "opaque full", "file full/new n", "dir over", "file over/upper 2", "mode over", "file swap now-a-file", "dev null", "sparse holes"},
		{"file lib now-a-file", "gone a", "dir swap", "file swap/again 1", "file h1 linked", "hard h2 h1", "file full/later l"},
	}
	layers[2] = append([]string{"dir full"}, layers[2]...)
	var chains, lowers []string
	for i, l := range layers {
		chain := fmt.Sprintf("%064x", i)
		dir := s.LayerDir(chain)
		os.MkdirAll(dir, 0o755)
		script(t, dir, l...)
		chains, lowers = append(chains, chain), slices.Insert(lowers, 0, dir)
	}
	out := filepath.Join(t.TempDir(), "tree")
	if err := s.Materialise(t.Context(), chains, out); err != nil {
		t.Fatal(err)
	}
	m, err := overlay.Open(overlay.Layers{Lower: lowers})
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	want, got := describe(t, fmt.Sprintf("/proc/self/fd/%d", m.Fd())), describe(t, out)
	if want != got {
		t.Errorf("overlay shows\n%s\nthe copy has\n%s", want, got)
	}
	if a, b := treeSum(t, fmt.Sprintf("/proc/self/fd/%d", m.Fd())), treeSum(t, out); a != b {
		t.Error("archives of both differ")
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(out, "holes"), &st); err != nil || st.Blocks*512 >= st.Size {
		t.Errorf("the hole was filled: %d blocks, %v", st.Blocks, err)
	}
}

func treeSum(t *testing.T, dir string) string {
	t.Helper()
	var b bytes.Buffer
	if err := archive.Create(t.Context(), &b, dir, nil); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b.Bytes()))
}

func describe(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir+"/.", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		fmt.Fprintf(&out, "%s %o %d:%d", rel, st.Mode, st.Uid, st.Gid)
		switch d.Type() {
		case 0:
			data, _ := os.ReadFile(p)
			fmt.Fprintf(&out, " %q %d", bytes.Trim(data, "\x00"), len(data))
		case fs.ModeSymlink:
			to, _ := os.Readlink(p)
			out.WriteString(" -> " + to)
		}
		out.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestMaterialiseUndoesWhatFailed(t *testing.T) {
	if CanUnpack() != nil {
		t.Skip("needs root")
	}
	s := newStore(t)
	if err := s.Init(); err != nil {
		t.Fatal(err)
	}
	chain := fmt.Sprintf("%064x", 1)
	os.MkdirAll(s.LayerDir(chain), 0o755)
	script(t, s.LayerDir(chain), "file a 1")
	out := filepath.Join(t.TempDir(), "tree")
	err := s.Materialise(t.Context(), []string{chain, fmt.Sprintf("%064x", 2)}, out)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing layer: %v", err)
	}
	if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the tree is still there: %v", err)
	}
}
