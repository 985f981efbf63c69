package image

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// smallDisk is a Root on a file system of its own.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("a tmpfs cannot be mounted: %v", err)
	}
	t.Cleanup(func() {
		// What a store syncs in the background keeps the disk busy for a moment.
		err := unix.Unmount(dir, 0)
		for range 500 {
			if err == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
			err = unix.Unmount(dir, 0)
		}
		unix.Unmount(dir, unix.MNT_DETACH)
		t.Error(err)
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	r := newRegistry(t)
	big := noise(t, "big", 3<<20)
	r.push("app", "v1", "", big)
	saved := dockerArchive(t, []string{"saved:1"}, big)
	for name, run := range map[string]func(*Store) error{
		"pull": func(s *Store) error {
			_, err := s.Pull(t.Context(), r.host()+"/app:v1", nil)
			return err
		},
		"load":   func(s *Store) error { _, err := s.Load(t.Context(), bytes.NewReader(saved), nil); return err },
		"import": func(s *Store) error { _, err := s.Import(t.Context(), bytes.NewReader(big), nil); return err },
	} {
		for _, size := range []string{"2m", "4m"} { // not even the blob; the blob, but not the layer
			t.Run(name+" on "+size, func(t *testing.T) {
				root := smallDisk(t, "size="+size)
				s := openTest(t, &Options{Root: root, State: t.TempDir()})
				err := run(s)
				if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), root) || !strings.Contains(err.Error(), "free space") {
					t.Fatalf("%v, want one that names the store and the cure", err)
				}
				if infos, err := s.List(t.Context(), nil); err != nil || len(infos) != 0 {
					t.Errorf("images: %v, %v", infos, err)
				}
				// Room is found by removing what there is.
				if _, err := s.s.Collect(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				if left := append(leftovers(t, root), contents(t, root)...); left != nil {
					t.Errorf("left behind: %v", left)
				}
				if _, err := s.Import(t.Context(), bytes.NewReader(tarOf(t, file{name: "a", body: "small"})), nil); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			})
		}
	}
}

func TestReadOnlyRoot(t *testing.T) {
	root := smallDisk(t, "size=16m")
	s := openTest(t, &Options{Root: root, State: t.TempDir()})
	img := importTest(t, s, "app", "1")
	s.s.Wait()
	if err := unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	other := openTest(t, &Options{Root: root, State: t.TempDir()})
	if got, err := other.Get(t.Context(), "app"); err != nil || got.ID() != img.ID() {
		t.Errorf("reading: %v", err)
	}
	if infos, err := other.List(t.Context(), nil); err != nil || len(infos) != 1 {
		t.Errorf("listing: %v, %v", infos, err)
	}
	_, err := other.Import(t.Context(), bytes.NewReader(tarOf(t, file{name: "a"})), nil)
	for what, err := range map[string]error{"import": err, "tag": other.Tag(t.Context(), "app", "b"), "remove": removeErr(other.Remove(t.Context(), "app", nil))} {
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "cannot be written") || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func removeErr(_ *Removed, err error) error { return err }

func TestRootBelowAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	os.WriteFile(path, nil, 0o600)
	s := openTest(t, &Options{Root: filepath.Join(path, "root"), State: t.TempDir()})
	if _, err := s.Import(t.Context(), bytes.NewReader(tarOf(t, file{name: "a"})), nil); err == nil || !strings.Contains(err.Error(), path) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Import: %v", err)
	}
}
