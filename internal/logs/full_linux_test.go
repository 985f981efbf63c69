package logs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk is a file system of 128 KiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to mount a small tmpfs")
	}
	dir := t.TempDir()
	if err := unix.Mount("amphora-test", dir, "tmpfs", 0, "size=128k"); err != nil {
		t.Skipf("needs to mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestDiskFull: what does not fit is counted, no entry is torn, and once
// there is room the log goes on.
func TestDiskFull(t *testing.T) {
	dir := smallDisk(t)
	path := filepath.Join(dir, "log")
	w, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 60<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	i, failures := 0, 0
	for ; failures < 3; i++ {
		var chunk []byte
		for j := range 50 {
			chunk = fmt.Appendf(chunk, "%d.%d %s\n", i, j, strings.Repeat("x", j))
		}
		if err := w.Write(Stdout, chunk, noon); err != nil {
			failures++
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
		}
	}
	lost := w.Dropped()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	entries := bytes.Count(data, []byte{'\n'})
	if len(data) == 0 || data[len(data)-1] != '\n' {
		t.Error("the last entry is torn")
	}
	if lost.Entries == 0 || entries+int(lost.Entries) != 50*i {
		t.Errorf("%d entries written, %d dropped, %d in all", entries, lost.Entries, 50*i)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	write(t, w, Stdout, "room again\n")
	if got := texts(all(t, path, &ReadOptions{Tail: 1})); len(got) != 1 || got[0] != "room again\n" {
		t.Errorf("ends with %q", got)
	}
	if got := len(all(t, path, nil)); got != entries+1 {
		t.Errorf("%d entries readable of %d", got, entries+1)
	}
	if w.Dropped() != lost {
		t.Error("counted what was written")
	}
}

// TestRotationFails: without an inode for a new file the old one goes on.
func TestRotationFails(t *testing.T) {
	dir := smallDisk(t)
	path := filepath.Join(dir, "log")
	w, err := Open(path, &Options{MaxSize: 1000, MaxFile: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	write(t, w, Stdout, "0\n")
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=128k,nr_inodes=2"); err != nil {
		t.Skipf("needs to limit inodes: %v", err)
	}
	failed := 0
	for i := 1; i < 30; i++ {
		if err := w.Write(Stdout, []byte(strconv.Itoa(i)+"\n"), noon); err != nil {
			failed++
		}
	}
	if failed != 1 {
		t.Errorf("%d errors, want one for the attempt", failed)
	}
	if got := texts(all(t, path, nil)); len(got) != 30 || w.Dropped().Entries != 0 {
		t.Errorf("%d entries, %d dropped", len(got), w.Dropped().Entries)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=128k,nr_inodes=100"); err != nil {
		t.Fatal(err)
	}
	w.limit = w.size // not to write 256 KiB first
	write(t, w, Stdout, "30\n")
	if _, err := os.Stat(numbered(path, 1)); err != nil {
		t.Errorf("no rotation once it is possible: %v", err)
	}
}
