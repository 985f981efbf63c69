//go:build linux

package archive

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The main thread must not be the one that enters a mount namespace, since it
// cannot be thrown away afterwards.
func init() { runtime.LockOSThread() }

// inMountNamespace runs f on a thread with mounts of its own, which end with it.
func inMountNamespace(t *testing.T, f func()) {
	t.Helper()
	needRoot(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			done <- err
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			done <- err
			return
		}
		defer close(done) // also after t.FailNow
		f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// stack holds layers of several kinds, a directory for each.
type stack struct {
	t    *testing.T
	base string
}

func (s *stack) layer(kind string, i int) string {
	return filepath.Join(s.base, fmt.Sprintf("%s%d", kind, i))
}

// lowers are the layers below i, topmost first.
func (s *stack) lowers(kind string, i int) []string {
	var list []string
	for i--; i >= 0; i-- {
		list = append(list, s.layer(kind, i))
	}
	return list
}

func (s *stack) mkdir(kind string, i int) string {
	d := s.layer(kind, i)
	if err := os.RemoveAll(d); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Mkdir(d, 0o755); err != nil {
		s.t.Fatal(err)
	}
	return d
}

// mounted calls f with the overlay of lowers, writable when upper is given.
func (s *stack) mounted(lowers []string, upper string, f func(mnt string)) {
	s.t.Helper()
	mnt, work := s.mkdir("mnt", 0), s.mkdir("work", 0)
	if len(lowers) == 0 {
		lowers = []string{s.mkdir("nothing", 0)}
	}
	opts := "lowerdir=" + strings.Join(lowers, ":")
	if upper != "" {
		opts += ",upperdir=" + upper + ",workdir=" + work
	} else {
		opts += ":" + s.mkdir("nothing", 1)
	}
	if err := unix.Mount("overlay", mnt, "overlay", 0, opts); err != nil {
		s.t.Skipf("this kernel cannot mount an overlay here: %v", err)
	}
	defer unix.Unmount(mnt, unix.MNT_DETACH)
	f(mnt)
}

func (s *stack) view(kind string, n int) map[string]string {
	var got map[string]string
	s.mounted(s.lowers(kind, n), "", func(mnt string) { got = snapshot(s.t, mnt, looseDirs(mnt)) })
	return got
}

// looseDirs leaves out the times of directories: unpacking something into one
// that no entry describes changes them in sequence and not in isolation.
func looseDirs(root string) map[string]bool {
	loose := map[string]bool{}
	filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			rel, _ := filepath.Rel(root, p)
			loose[rel] = true
		}
		return nil
	})
	return loose
}
