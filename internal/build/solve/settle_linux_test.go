package solve

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/overlay"
	"github.com/amphora-go/amphora/internal/testenv"
)

// shown lists what an overlay of directories shows.
func shown(t *testing.T, lowers ...string) string {
	t.Helper()
	f, err := overlay.Open(overlay.Layers{Lower: lowers})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	root := "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
	var names []string
	err = filepath.WalkDir(root+"/.", func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != root+"/." {
			names = append(names, strings.TrimPrefix(path, root+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

func filled(t *testing.T, root string, files ...string) string {
	t.Helper()
	for _, f := range files {
		path := filepath.Join(root, f)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// What the kernel marks as opaque, it need not hide over another tree, and what
// was hidden stays so over the tree that it was made on.
func TestSettle(t *testing.T) {
	testenv.Root(t)
	dir := testenv.Dir(t)
	lower := filled(t, dir+"/lower", "d/old", "r/gone", "r/kept/gone", "r/kept/same", "f/x")
	other := filled(t, dir+"/other", "d/new/others", "r/others", "r/kept/gone", "z")
	upper := dir + "/upper"
	if err := os.Mkdir(upper, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := overlay.Open(overlay.Layers{Lower: []string{lower}, Upper: upper, Work: dir + "/work"})
	if err != nil {
		t.Fatal(err)
	}
	root := "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
	filled(t, root, "d/new/mine") // new in a merged directory
	if err := os.RemoveAll(root + "/r"); err != nil {
		t.Fatal(err)
	}
	filled(t, root, "r/mine", "r/kept/same") // in place of one that was removed
	if err := os.RemoveAll(root + "/f"); err != nil {
		t.Fatal(err)
	}
	filled(t, root, "f") // a file in place of a directory
	before := shown(t, upper, lower)
	f.Close()
	// Kernels before 5.12, and overlays with an index, do so themselves.
	if err := unix.Lsetxattr(upper+"/d/new", opaque, []byte("y"), 0); err != nil {
		t.Fatal(err)
	}
	var value [1]byte
	if _, err := unix.Lgetxattr(upper+"/r", opaque, value[:]); err != nil {
		t.Fatalf("the directory that was replaced is not marked: %v", err)
	}
	if err := settle(t.Context(), upper, []string{lower}); err != nil {
		t.Fatal(err)
	}
	if after := shown(t, upper, lower); after != before {
		t.Errorf("over its own tree: %s\nwant %s", after, before)
	}
	if got, want := shown(t, upper, other), "d d/new d/new/mine d/new/others f r r/kept r/kept/same r/mine r/others z"; got != want {
		t.Errorf("over another tree: %s\nwant %s", got, want)
	}
	filepath.WalkDir(upper, func(path string, d fs.DirEntry, err error) error {
		if _, err := unix.Lgetxattr(path, opaque, value[:]); err == nil {
			t.Errorf("%s is opaque still", path)
		}
		return err
	})
}
