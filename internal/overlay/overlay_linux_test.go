package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
