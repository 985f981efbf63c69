package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func needRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
}

func TestTwoHundredLayers(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	var l Layers
	for i := range 200 {
		d := filepath.Join(dir, fmt.Sprint("layer", i))
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, fmt.Sprint("f", i)), []byte{byte(i)}, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "who"), []byte(fmt.Sprint(i)), 0o644); err != nil {
			t.Fatal(err)
		}
		l.Lower = append(l.Lower, d)
	}
	l.Upper, l.Work = filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	for _, volatile := range []bool{true, false, true} { // again over its own leftovers
		l.Volatile = volatile
		f, err := Open(l)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := readAt(f, "who"); err != nil || string(b) != "0" {
			t.Errorf("top layer does not win: %q, %v", b, err)
		}
		if _, err := readAt(f, "f199"); err != nil {
			t.Errorf("lowest layer is not seen: %v", err)
		}
		f.Close()
	}
}

// The root of a container is that of its image, not of an empty directory.
func TestRootIsLikeTheTopLayer(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	l := Layers{Lower: []string{filepath.Join(dir, "top"), filepath.Join(dir, "bottom")}, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work")}
	for _, d := range l.Lower {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chown(l.Lower[0], 12, 34), os.Chmod(l.Lower[0], 0o1751|os.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		f, err := Open(l)
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		err = unix.Fstatat(int(f.Fd()), "", &st, unix.AT_EMPTY_PATH)
		f.Close()
		if err != nil || st.Uid != 12 || st.Gid != 34 || st.Mode&0o7777 != 0o1751 {
			t.Errorf("root is %d:%d %o, %v", st.Uid, st.Gid, st.Mode&0o7777, err)
		}
	}
}

func TestMountLegacy(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	var l Layers
	for i := range 150 {
		d := filepath.Join(dir, fmt.Sprint("a rather long name of a layer's directory ", i))
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, fmt.Sprint("f", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		l.Lower = append(l.Lower, d)
	}
	l.Upper, l.Work = filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	target := filepath.Join(dir, "target")
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := prepare(l); err != nil {
		t.Fatal(err)
	}
	inNamespace(t, func() error {
		if err := mountLegacy(target, l); err != nil {
			return err
		}
		_, err := os.Stat(filepath.Join(target, "f149"))
		return err
	})
	for range 100 {
		l.Lower = append(l.Lower, l.Lower...)
		if len(l.Lower) > 500 {
			break
		}
	}
	if err := mountLegacy(target, l); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%d layers: %v", len(l.Lower), err)
	}
}

// inNamespace runs f in a mount namespace of its own, whose thread is thrown
// away.
func inNamespace(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			done <- err
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestOneLayerIsReadOnly(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Open(Layers{Lower: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := readAt(f, "f"); err != nil || string(b) != "x" {
		t.Errorf("read %q, %v", b, err)
	}
	if _, err := unix.Openat(int(f.Fd()), "f", unix.O_WRONLY, 0); !errors.Is(err, unix.EROFS) {
		t.Errorf("open for writing: %v, want EROFS", err)
	}
}

func readAt(dir *os.File, name string) ([]byte, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	b := make([]byte, 64)
	n, err := f.Read(b)
	return b[:n], err
}

func TestMissingLayerIsNamed(t *testing.T) {
	needRoot(t)
	_, err := Open(Layers{Lower: []string{"/nonexistent/layer"}})
	if err == nil || errors.Is(err, os.ErrNotExist) {
		t.Fatalf("Open of a missing layer: %v; it must fail and not look like a missing object", err)
	}
}
