//go:build linux

package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func create(t testing.TB, dir string, opts *CreateOptions) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Create(t.Context(), &b, dir, opts); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func list(t testing.TB, data []byte) (names []string) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

func TestCreateRoundTrip(t *testing.T) {
	needRoot(t)
	a, b := t.TempDir(), t.TempDir()
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	long := strings.Repeat("long/", 60) + strings.Repeat("n", 200)
	mustApply(t, a, nil, dir(".", 0o751), dir("d", 0o3777).owner(1, 2).xattr("user.x", "1"),
		file("d/f", "content").owner(3, 4).mode(0o4711).xattr("security.capability", capability),
		hardlink("d/h", "d/f").owner(3, 4).mode(0o4711).xattr("security.capability", capability),
		symlink("d/s", "f").owner(5, 6).xattr("trusted.on-a-link", "1"), hardlink("d/t", "d/s").owner(5, 6),
		device("null", tar.TypeChar, 1, 3), device("fifo", tar.TypeFifo, 0, 0), file(long, "deep"), file("empty", ""))
	l, err := net.Listen("unix", filepath.Join(a, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	data := create(t, a, &CreateOptions{Root: true})
	if !bytes.Equal(data, create(t, a, &CreateOptions{Root: true})) {
		t.Error("the same tree gives different archives")
	}
	if _, err := Apply(t.Context(), b, bytes.NewReader(data), nil); err != nil {
		t.Fatal(err)
	}
	want := snapshot(t, a, nil)
	delete(want, "socket")
	delete(want, ".") // changed by the socket
	got := snapshot(t, b, nil)
	delete(got, ".")
	if d := diff(want, got); d != "" {
		t.Error(d)
	}
	var x, y unix.Stat_t
	unix.Lstat(b+"/d/s", &x)
	unix.Lstat(b+"/d/t", &y)
	if x.Ino != y.Ino {
		t.Error("hard link became a copy")
	}
}

func TestCreateOverlay(t *testing.T) {
	needRoot(t)
	layer := t.TempDir()
	in := []*entry{dir("d", 0o755), file("d/.wh..wh..opq", ""), file("d/.wh.gone", ""), file("d/new", "n"), file(".wh.top", "")}
	mustApply(t, layer, nil, in...)
	data := create(t, layer, &CreateOptions{Overlay: true})
	want := []string{"d/", "d/.wh..wh..opq", "d/.wh.gone", "d/new", ".wh.top"}
	if got := list(t, data); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		t.Errorf("got %q", got)
	}
	os.WriteFile(layer+"/.wh.evil", nil, 0o600)
	if err := Create(t.Context(), io.Discard, layer, &CreateOptions{Overlay: true}); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a file with a reserved name: %v", err)
	}
}

func TestCreateSelects(t *testing.T) {
	root := t.TempDir()
	outside := t.TempDir()
	os.WriteFile(outside+"/secret", []byte("s"), 0o600)
	os.MkdirAll(root+"/a/b", 0o755)
	os.WriteFile(root+"/a/b/f", []byte("f"), 0o600)
	os.WriteFile(root+"/a/skip", []byte("f"), 0o600)
	os.Symlink("/a", root+"/absolute")
	os.Symlink("../../../../../../../.."+outside, root+"/escape")
	os.Symlink(outside, root+"/out")
	for _, c := range []struct {
		opts *CreateOptions
		want []string
	}{
		{&CreateOptions{Path: "a/b"}, []string{"b/", "b/f"}},
		{&CreateOptions{Path: "absolute/b/f", As: "renamed"}, []string{"renamed"}},
		{&CreateOptions{Path: "/../../a/b", As: "x/y"}, []string{"x/y/", "x/y/f"}},
		{&CreateOptions{Path: "out"}, []string{"out"}},
		{&CreateOptions{Skip: func(n string) bool { return n == "a/b" || !strings.HasPrefix(n, "a") }}, []string{"a/", "a/skip", "absolute"}},
		{&CreateOptions{As: "r", Skip: func(n string) bool { return n != "r" }}, []string{"r/"}},
		{&CreateOptions{Root: true, Skip: func(n string) bool { return true }}, []string{"./"}},
	} {
		if c.opts.Path == "" && c.opts.As == "" && !c.opts.Root {
			c.opts.Skip = func(n string) bool { return n == "a/b" || n == "escape" || n == "out" }
		}
		if got := list(t, create(t, root, c.opts)); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.opts, got, c.want)
		}
	}
	for _, p := range []string{"absent", "out/secret", "escape/secret", "a/b/f/x"} {
		var b bytes.Buffer
		err := Create(t.Context(), &b, root, &CreateOptions{Path: p})
		if err == nil || b.Len() > 0 {
			t.Errorf("%s: %v, %q", p, err, b.Bytes())
		}
	}
	if err := Create(t.Context(), io.Discard, root, &CreateOptions{Path: "absent"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}

func TestCreateMapsOwnersAndTimes(t *testing.T) {
	root := t.TempDir()
	os.WriteFile(root+"/f", nil, 0o600)
	limit := time.Unix(1000, 0)
	data := create(t, root, &CreateOptions{MaxTime: limit, MapID: func(u, g int) (int, int, error) { return 77, 78, nil }})
	h, err := tar.NewReader(bytes.NewReader(data)).Next()
	if err != nil {
		t.Fatal(err)
	}
	if h.Uid != 77 || h.Gid != 78 || !h.ModTime.Equal(limit) {
		t.Errorf("%+v", h)
	}
}

// A tree that changes under Create must never lead it outside.
func TestCreateAgainstSwaps(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	os.WriteFile(outside+"/f", []byte("SECRET"), 0o600)
	os.Mkdir(root+"/d", 0o755)
	os.WriteFile(root+"/d/f", []byte("public"), 0o600)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			os.Rename(root+"/d", root+"/e")
			os.Symlink(outside, root+"/d")
			os.Remove(root + "/d")
			os.Rename(root+"/e", root+"/d")
		}
	}()
	for range 2000 {
		var b bytes.Buffer
		Create(t.Context(), &b, root, nil)
		if bytes.Contains(b.Bytes(), []byte("SECRET")) {
			t.Fatal("left its root")
		}
		b.Reset()
		Create(t.Context(), &b, root, &CreateOptions{Path: "d/f"})
		if bytes.Contains(b.Bytes(), []byte("SECRET")) {
			t.Fatal("left its root by Path")
		}
	}
	close(stop)
	<-done
}

func TestReadInRoot(t *testing.T) {
	root := t.TempDir()
	os.Mkdir(root+"/etc", 0o755)
	os.WriteFile(root+"/etc/passwd", []byte("root:x:0:0\n"), 0o644)
	os.Symlink("/etc/passwd", root+"/link")
	os.Symlink("/etc/hostname", root+"/etc/outside")
	os.Symlink("/proc/self/fd/0", root+"/magic")
	unix.Mkfifo(root+"/fifo", 0o644)
	for _, p := range []string{"etc/passwd", "/etc/passwd", "link", "../../etc/passwd"} {
		if data, err := ReadInRoot(root, p, 11); err != nil || string(data) != "root:x:0:0\n" {
			t.Errorf("%s: %q, %v", p, data, err)
		}
	}
	for _, p := range []string{"etc/outside", "absent", "magic", "etc/passwd/x"} {
		if _, err := ReadInRoot(root, p, 100); err == nil {
			t.Errorf("%s was read", p)
		}
	}
	if _, err := ReadInRoot(root, "absent", 100); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	for _, p := range []string{"fifo", "etc"} {
		if _, err := ReadInRoot(root, p, 100); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: %v", p, err)
		}
	}
	if _, err := ReadInRoot(root, "etc/passwd", 10); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("too large: %v", err)
	}
	if _, err := ReadInRoot(root+"/absent", "x", 10); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent root: %v", err)
	}
}
