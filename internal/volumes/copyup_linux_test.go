package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/testenv"
)

func childCopyUp(args []string) int {
	if err := CopyUp(context.Background(), args[0], args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("owners and devices can be made by root only")
	}
}

// source makes a tree with one of each kind.
func source(t testing.TB) string {
	t.Helper()
	needRoot(t)
	dir := filepath.Join(testenv.Dir(t), "src")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(os.MkdirAll(filepath.Join(dir, "sub/deep"), 0o755))
	check(os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o640))
	check(os.WriteFile(filepath.Join(dir, "sub/setuid"), []byte("x"), 0o755))
	check(os.WriteFile(filepath.Join(dir, "empty"), nil, 0o400))
	check(os.Link(filepath.Join(dir, "file"), filepath.Join(dir, "sub/deep/hard")))
	check(os.Symlink("/etc/passwd", filepath.Join(dir, "link")))
	check(os.Symlink("nowhere", filepath.Join(dir, "sub/dangling")))
	check(unix.Mkfifo(filepath.Join(dir, "pipe"), 0o620))
	check(unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	sparse, err := os.Create(filepath.Join(dir, "sparse"))
	check(err)
	_, err = sparse.WriteAt([]byte("middle"), 5<<20)
	check(err)
	check(sparse.Truncate(20 << 20))
	check(sparse.Close())
	check(os.Lchown(filepath.Join(dir, "sub/setuid"), 1, 2))
	check(unix.Chmod(filepath.Join(dir, "sub/setuid"), 0o6755))
	check(unix.Chmod(filepath.Join(dir, "null"), 0o606))
	check(os.Lchown(filepath.Join(dir, "link"), 3, 4))
	check(os.Lchown(filepath.Join(dir, "sub"), 5, 6))
	check(unix.Setxattr(filepath.Join(dir, "file"), "user.note", []byte("hello"), 0))
	check(unix.Setxattr(filepath.Join(dir, "file"), "user.overlay.opaque", []byte("y"), 0))
	check(unix.Lsetxattr(filepath.Join(dir, "link"), "trusted.note", []byte("t"), 0))
	check(unix.Setxattr(filepath.Join(dir, "sub/setuid"), "security.capability",
		[]byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0))
	check(os.Chown(dir, 70, 70))
	check(unix.Chmod(dir, 0o1770))
	then := time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)
	check(filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		ts := unix.NsecToTimespec(then.UnixNano())
		return errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
	}))
	return dir
}

// describe renders a tree with everything that must be the same in a copy.
func describe(t testing.TB, dir string, times bool) string {
	t.Helper()
	var b strings.Builder
	firsts := map[inode]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		fmt.Fprintf(&b, "%s %o %d:%d %x", rel, st.Mode, st.Uid, st.Gid, st.Rdev)
		if times {
			fmt.Fprintf(&b, " %d.%d", st.Mtim.Sec, st.Mtim.Nsec)
		}
		switch {
		case d.Type().IsRegular():
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %d %q", st.Size, strings.Trim(string(data), "\x00"))
			id := inode{uint64(st.Dev), st.Ino}
			if firsts[id] == "" {
				firsts[id] = rel
			}
			fmt.Fprintf(&b, " =%s %d", firsts[id], st.Nlink)
		case d.Type() == fs.ModeSymlink:
			to, _ := os.Readlink(p)
			fmt.Fprintf(&b, " -> %s", to)
		}
		names := make([]byte, 1000)
		n, _ := unix.Llistxattr(p, names)
		for name := range strings.SplitSeq(string(names[:max(n, 0)]), "\x00") {
			value := make([]byte, 100)
			if n, err := unix.Lgetxattr(p, name, value); err == nil && kept(name) {
				fmt.Fprintf(&b, " %s=%q", name, value[:n])
			}
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestCopyUp(t *testing.T) {
	src := source(t)
	s, _ := newStore(t)
	v := must[*Volume](t)(s.Create(t.Context(), &Spec{Name: "db"}))
	if err := CopyUp(t.Context(), src, v.Source()); err != nil {
		t.Fatal(err)
	}
	want := describe(t, src, true)
	if got := describe(t, v.Source(), true); got != want {
		t.Errorf("copy\n%s\nsource\n%s", got, want)
	}
	if _, err := unix.Getxattr(filepath.Join(v.Source(), "file"), "user.overlay.opaque", nil); !errors.Is(err, unix.ENODATA) {
		t.Errorf("overlay's own attribute was copied: %v", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(v.Source(), "sparse"), &st); err != nil || st.Blocks*512 > 1<<20 {
		t.Errorf("the sparse file takes %d bytes, %v", st.Blocks*512, err)
	}
	entries, _ := os.ReadDir(s.path("db"))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "fill") && e.Name() != "fill.lock" {
			t.Errorf("left: %s", e.Name())
		}
	}
	// A second start finds it full, whatever the image has now.
	if err := os.Remove(filepath.Join(v.Source(), "file")); err != nil {
		t.Fatal(err)
	}
	before := describe(t, v.Source(), true)
	if err := CopyUp(t.Context(), src, v.Source()); err != nil {
		t.Fatal(err)
	}
	if got := describe(t, v.Source(), true); got != before {
		t.Errorf("a volume in use was changed\n%s\n%s", before, got)
	}
}

func TestCopyUpOfLittle(t *testing.T) {
	needRoot(t)
	s, dir := newStore(t)
	v := must[*Volume](t)(s.Create(t.Context(), &Spec{Name: "db"}))
	if err := errors.Join(CopyUp(t.Context(), filepath.Join(dir, "none"), v.Source()), CopyUp(t.Context(), "", v.Source())); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CopyUp(t.Context(), file, v.Source()); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a file as source: %v", err)
	}
	src := filepath.Join(dir, "src")
	if err := errors.Join(os.Mkdir(src, 0o755), os.Chown(src, 999, 998), os.Chmod(src, 0o700|fs.ModeSetgid)); err != nil {
		t.Fatal(err)
	}
	if err := CopyUp(t.Context(), src, v.Source()); err != nil {
		t.Fatal(err)
	}
	if got, want := describe(t, v.Source(), true), describe(t, src, true); got != want {
		t.Errorf("an empty directory became %s, want %s", got, want)
	}
}

func TestCopyUpKilledAtEveryPoint(t *testing.T) {
	src := source(t)
	s, _ := newStore(t)
	n := 0
	fresh := func() string {
		n++
		return must[*Volume](t)(s.Create(t.Context(), &Spec{Name: fmt.Sprint("volume", n), Volatile: true})).Source()
	}
	data := fresh()
	points := testenv.Points(func() {
		if err := CopyUp(t.Context(), src, data); err != nil {
			t.Error(err)
		}
	})
	want := describe(t, src, false)
	seen := map[string]int{}
	for _, point := range points {
		at := seen[point]
		seen[point]++
		t.Run(fmt.Sprint(point, "-", at), func(t *testing.T) {
			data := fresh()
			if r := testenv.RunChild(t, "copyup", step.Plan{Name: point, At: at}, src, data); !r.Killed {
				t.Fatalf("the child was not killed: %+v", r)
			}
			// A container that does not copy sees all or nothing.
			if err := CopyUp(t.Context(), "", data); err != nil {
				t.Fatal(err)
			}
			if got := describe(t, data, false); got != want && strings.Count(got, "\n") != 1 {
				t.Errorf("half of a copy:\n%s", got)
			}
			if err := CopyUp(t.Context(), src, data); err != nil {
				t.Fatal(err)
			}
			if got := describe(t, data, false); got != want {
				t.Errorf("after the kill:\n%s\nwant\n%s", got, want)
			}
			for _, rest := range []string{"fill", "fill-new"} {
				if _, err := os.Lstat(filepath.Join(filepath.Dir(data), rest)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("left %s: %v", rest, err)
				}
			}
		})
	}
	if len(seen) < 6 {
		t.Errorf("only %v were passed", points)
	}
}

func TestCopyUpByMany(t *testing.T) {
	src := source(t)
	s, _ := newStore(t)
	v := must[*Volume](t)(s.Create(t.Context(), &Spec{Name: "db"}))
	want := describe(t, src, true)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := CopyUp(t.Context(), src, v.Source()); err != nil {
				t.Error(err)
			} else if got := describe(t, v.Source(), false); strings.Count(got, "\n") != strings.Count(want, "\n") {
				t.Errorf("one returned before the volume was full:\n%s", got)
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			if r := testenv.RunChild(t, "copyup", step.Plan{}, src, v.Source()); r.Code != 0 {
				t.Errorf("child: %+v", r)
			}
		})
	}
	wg.Wait()
	if got := describe(t, v.Source(), true); got != want {
		t.Errorf("copy\n%s\nsource\n%s", got, want)
	}
}

// What a container made in the empty volume meanwhile is not replaced.
func TestCopyUpNeverReplaces(t *testing.T) {
	src := source(t)
	s, _ := newStore(t)
	v := must[*Volume](t)(s.Create(t.Context(), &Spec{Name: "db"}))
	if r := testenv.RunChild(t, "copyup", step.Plan{Name: "volume.fill.ready"}, src, v.Source()); !r.Killed {
		t.Fatalf("%+v", r)
	}
	if err := os.WriteFile(filepath.Join(v.Source(), "file"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CopyUp(t.Context(), src, v.Source()); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(v.Source(), "file")); string(b) != "mine" {
		t.Errorf("replaced by %q, %v", b, err)
	}
	if _, err := os.Lstat(filepath.Join(v.Source(), "sub/dangling")); err != nil {
		t.Error(err)
	}
}

func TestCopyUpFails(t *testing.T) {
	src := source(t)
	s, _ := newStore(t)
	v := must[*Volume](t)(s.Create(t.Context(), &Spec{Name: "db"}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := CopyUp(ctx, src, v.Source()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	// A file system of 1 MiB cannot hold the copy.
	full := testenv.Dir(t)
	if err := unix.Mount("none", full, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("cannot mount a tmpfs:", err)
	}
	defer unix.Unmount(full, 0)
	data := filepath.Join(full, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	big := filepath.Join(testenv.Dir(t), "big")
	if err := errors.Join(os.Mkdir(big, 0o755), os.WriteFile(filepath.Join(big, "blob"), make([]byte, 3<<20), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := CopyUp(t.Context(), big, data); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "blob") {
		t.Errorf("full disk: %v", err)
	}
	for _, dir := range []string{full, s.path("db")} {
		for _, rest := range []string{"fill", "fill-new"} {
			if _, err := os.Lstat(filepath.Join(dir, rest)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("left %s: %v", rest, err)
			}
		}
	}
	if empty, err := isEmpty(data); !empty || err != nil {
		t.Errorf("data is not empty: %v", err)
	}
}
