//go:build linux

package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestApplySparse reads what GNU tar -S wrote in its four formats.
func TestApplySparse(t *testing.T) {
	needRoot(t)
	files, _ := filepath.Glob("testdata/sparse-*.tar.gz")
	if len(files) != 4 {
		t.Fatal(files)
	}
	want := make([]byte, 8<<20)
	copy(want, "start")
	copy(want[3<<20:], strings.Repeat("middle", 1000))
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r, _, err := Decompress(f)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		root := t.TempDir()
		if _, err := Apply(t.Context(), root, r, nil); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := os.ReadFile(root + "/sparse")
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: content differs, %v", name, err)
		}
		for _, n := range []string{"sparse", "hole"} {
			var st unix.Stat_t
			unix.Stat(root+"/"+n, &st)
			if st.Blocks*512 > 64<<10 {
				t.Errorf("%s: %s takes %d bytes of disk", name, n, st.Blocks*512)
			}
		}
		if st, _ := os.Stat(root + "/hole"); st.Size() != 4<<20 {
			t.Errorf("%s: hole has %d bytes", name, st.Size())
		}
	}
}

func TestApplyTimes(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	f := file("d/f", "x")
	f.AccessTime = epoch.Add(time.Hour)
	early := file("d/early", "x")
	early.AccessTime = epoch.Add(-time.Hour)
	old := file("d/old", "x")
	old.ModTime = time.Unix(-1000, 5)
	mustApply(t, root, nil, dir("d", 0o755), f, early, old, file("d/later", "x"))
	for name, want := range map[string]time.Time{"d": epoch, "d/f": epoch, "d/old": time.Unix(-1000, 5)} {
		if st, _ := os.Stat(root + "/" + name); !st.ModTime().Equal(want) {
			t.Errorf("%s: %v", name, st.ModTime())
		}
	}
	for name, want := range map[string]time.Time{"d/f": epoch.Add(time.Hour), "d/early": epoch} {
		var st unix.Stat_t
		unix.Stat(root+"/"+name, &st)
		if got := time.Unix(st.Atim.Unix()); !got.Equal(want) {
			t.Errorf("%s: accessed %v", name, got)
		}
	}
}

func TestApplyImpliedDirectories(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	done := mustApply(t, root, &ApplyOptions{Isolated: true, MapID: func(u, g int) (int, int, error) { return u + 100, g + 200, nil }},
		file("a/b/c", "x").owner(1, 2), dir("d", 0o700), file("d/e/f", ""), dir("a/b", 0o711))
	if got := strings.Join(done.Implicit, " "); got != ". a d/e" {
		t.Errorf("implicit: %s", got)
	}
	if strings.Join(done.Described, " ") != "a/b" || !done.Ordered {
		t.Errorf("%+v", done)
	}
	got := snapshot(t, root, map[string]bool{"a": true, ".": true})
	for p, want := range map[string]string{"a": "40755 100:200", ".": "40755 100:200", "a/b/c": `100644 101:202 1700000000.123456789 "x"`,
		"a/b": "40711 100:200 1700000000.123456789"} {
		if got[p] != want {
			t.Errorf("%s: %s", p, got[p])
		}
	}
}

func TestApplyIgnoresUmaskAndSetgid(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	os.Chown(root, 0, 5)
	unix.Chmod(root, 0o2755)
	for _, style := range []Whiteouts{WhiteoutOverlay, WhiteoutPlain} {
		mustApply(t, root, &ApplyOptions{Whiteouts: style}, dir("d", 0o777), dir("d/e", 0o770), file("d/e/f", "").mode(0o666), file("g", ""))
		got := snapshot(t, root, map[string]bool{".": true})
		for p, want := range map[string]string{"d": "40777 0:0", "d/e": "40770 0:0", "d/e/f": "100666 0:0", "g": "100644 0:0"} {
			if !strings.HasPrefix(got[p], want+" ") {
				t.Errorf("style %d, %s: %s", style, p, got[p])
			}
		}
	}
}

func TestApplyStreamErrors(t *testing.T) {
	needRoot(t)
	data := archiveOf(t, file("f", strings.Repeat("x", 3000)), file("g", "y"))
	for _, n := range []int{100, 520, 2000} {
		_, err := Apply(t.Context(), t.TempDir(), bytes.NewReader(data[:n]), nil)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut to %d: %v", n, err)
		}
	}
	boom := errors.New("boom")
	_, err := Apply(t.Context(), t.TempDir(), io.MultiReader(bytes.NewReader(data[:2000]), errReader{boom}), nil)
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), `"f"`) {
		t.Errorf("failing source: %v", err)
	}
	// An error behind the archive counts: it may be the check sum.
	if _, err = Apply(t.Context(), t.TempDir(), io.MultiReader(bytes.NewReader(data), errReader{boom}), nil); !errors.Is(err, boom) {
		t.Errorf("failing tail: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Apply(ctx, t.TempDir(), bytes.NewReader(data), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := Apply(t.Context(), t.TempDir()+"/absent", bytes.NewReader(data), nil); err == nil {
		t.Error("absent root")
	}
	for _, o := range []*ApplyOptions{{Isolated: true, Lowers: []string{}}, {Isolated: true, Whiteouts: WhiteoutPlain}} {
		if _, err := Apply(t.Context(), t.TempDir(), bytes.NewReader(data), o); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestApplyFullDisk(t *testing.T) {
	inMountNamespace(t, func() {
		root := t.TempDir()
		if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=1m"); err != nil {
			t.Skipf("cannot mount a tmpfs: %v", err)
		}
		defer unix.Unmount(root, unix.MNT_DETACH)
		_, err := apply(t, root, nil, dir("d", 0o755), file("d/big", strings.Repeat("x", 2<<20)))
		if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "d/big") {
			t.Errorf("got %v", err)
		}
	})
}

// withoutCapabilities runs f on a thread that lacks the given ones.
func withoutCapabilities(t *testing.T, f func(), caps ...uint) {
	t.Helper()
	needRoot(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&head, &data[0]); err != nil {
			done <- err
			return
		}
		for _, c := range caps {
			data[c/32].Effective &^= 1 << (c % 32)
		}
		if err := unix.Capset(&head, &data[0]); err != nil {
			done <- err
			return
		}
		defer close(done)
		f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestApplyWithoutPrivileges(t *testing.T) {
	for name, c := range map[string]struct {
		cap   uint
		entry *entry
	}{
		"device": {unix.CAP_MKNOD, device("n", tar.TypeChar, 1, 3)},
		"owner":  {unix.CAP_CHOWN, file("f", "").owner(1, 1)},
		"link":   {unix.CAP_CHOWN, symlink("l", "x").owner(1, 1)},
		"dir":    {unix.CAP_CHOWN, dir("d", 0o755).owner(1, 1)},
		"opaque": {unix.CAP_SYS_ADMIN, file("d/.wh..wh..opq", "")},
	} {
		withoutCapabilities(t, func() {
			_, err := apply(t, t.TempDir(), nil, c.entry)
			if !errors.Is(err, errors.ErrUnsupported) || !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "root") {
				t.Errorf("%s: %v", name, err)
			}
		}, c.cap)
	}
	// What needs no privilege works without.
	withoutCapabilities(t, func() {
		root := t.TempDir()
		done := mustApply(t, root, &ApplyOptions{Whiteouts: WhiteoutUserOverlay}, file("d/.wh..wh..opq", ""), file("d/.wh.x", ""),
			file("f", "").xattr("trusted.x", "1"), device("fifo", tar.TypeFifo, 0, 0))
		if strings.Join(done.SkippedXattrs, " ") != "trusted.x" {
			t.Errorf("skipped %q", done.SkippedXattrs)
		}
	}, unix.CAP_MKNOD, unix.CAP_CHOWN, unix.CAP_SYS_ADMIN)
}
