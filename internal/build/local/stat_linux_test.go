package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// age waits until files are older than what counts as just changed.
func age() { time.Sleep(50 * time.Millisecond) }

func small(t *testing.T) *Dir {
	dir := t.TempDir()
	for _, d := range []string{"a/deep", "b"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	for _, f := range []string{"a/1", "a/deep/2", "b/3", "4"} {
		must(t, os.WriteFile(filepath.Join(dir, f), []byte(f), 0o644))
	}
	must(t, os.Symlink("a/1", filepath.Join(dir, "link")))
	unix.Setxattr(filepath.Join(dir, "4"), "user.x", []byte("y"), 0)
	return &Dir{Path: dir, Stat: filepath.Join(t.TempDir(), "stats", "one")}
}

func (d *Dir) must(t *testing.T, f *Filter) *Manifest {
	t.Helper()
	m, err := d.Scan(context.Background(), f)
	must(t, err)
	return m
}

// remembers says whether a scan would have to read no file.
func (d *Dir) remembers(t *testing.T, f *Filter) bool {
	t.Helper()
	if f == nil {
		f = &Filter{}
	}
	_, err := scan(context.Background(), d.Path, f, load(d.Stat), "", true)
	if err != nil && !errors.Is(err, errChanged) {
		t.Fatal(err)
	}
	return err == nil
}

func TestRemembers(t *testing.T) {
	d := small(t)
	age()
	if d.remembers(t, nil) {
		t.Fatal("it knows files that it never saw")
	}
	first := d.must(t, nil)
	if !d.remembers(t, nil) {
		t.Fatal("the first scan was forgotten")
	}
	if again := d.must(t, nil); again.Digest() != first.Digest() {
		t.Error("what is remembered is something else")
	}
	name := filepath.Join(d.Path, "a/deep/2")
	changes := map[string]func() error{
		"content with old times": func() error {
			fi, err := os.Stat(name)
			return errors.Join(err, os.WriteFile(name, []byte("a/deep/X"), 0o644), os.Chtimes(name, fi.ModTime(), fi.ModTime()))
		},
		"another file": func() error {
			return errors.Join(os.WriteFile(name+"new", []byte("a/deep/Y"), 0o644), os.Rename(name+"new", name))
		},
		"mode":      func() error { return os.Chmod(name, 0o600) },
		"attribute": func() error { return unix.Setxattr(name, "user.z", []byte("1"), 0) },
	}
	seen := first.Digest()
	for what, change := range changes {
		age()
		must(t, change())
		if d.remembers(t, nil) {
			t.Errorf("%s: not noticed", what)
		}
		if now := d.must(t, nil).Digest(); now == seen {
			t.Errorf("%s: the same digest", what)
		} else {
			seen = now
		}
	}
}

// What was changed just before a scan could change once more without a trace.
func TestJustChangedIsNotTrusted(t *testing.T) {
	s := &scanner{began: time.Now().UnixNano()}
	for after, want := range map[time.Duration]bool{0: false, -5 * time.Millisecond: false, time.Hour: false, -time.Second: true} {
		st := stamp{ctime: s.began + int64(after) | 1}
		if s.trusted(&st) != want {
			t.Errorf("a file changed %v before is trusted: %v", -after, !want)
		}
	}
	coarse := stamp{ctime: (s.began - int64(time.Second)) / int64(time.Second) * int64(time.Second)}
	if s.trusted(&coarse) {
		t.Error("a time in seconds is taken for exact")
	}
}

func TestFiltersShareAFile(t *testing.T) {
	d := small(t)
	must(t, os.WriteFile(filepath.Join(d.Path, "c"), nil, 0o644))
	age()
	a, b := &Filter{Include: []string{"a", "link"}}, &Filter{Include: []string{"b", "4"}}
	d.must(t, a)
	d.must(t, b)
	if !d.remembers(t, a) || !d.remembers(t, b) {
		t.Error("one filter's scan makes the other's be forgotten")
	}
	if d.remembers(t, nil) {
		t.Error("it knows what no scan saw")
	}
	must(t, os.RemoveAll(filepath.Join(d.Path, "a")))
	must(t, os.WriteFile(filepath.Join(d.Path, "b/new"), nil, 0o644))
	age()
	d.must(t, b)
	if known := load(d.Stat); known.dir("a/deep") != nil || known.dir("a") != nil {
		t.Error("directories that are gone are remembered")
	}
}

// Whatever happened to the file, a scan gives the same.
func TestDamagedFileIsEmpty(t *testing.T) {
	d := small(t)
	age()
	want := d.must(t, nil).Digest()
	whole, err := os.ReadFile(d.Stat)
	must(t, err)
	for i := 0; i < len(whole); i += 7 {
		bad := bytes.Clone(whole)
		bad[i] ^= 0x41
		for what, data := range map[string][]byte{"bit": bad, "end": whole[:i]} {
			must(t, os.WriteFile(d.Stat, data, 0o600))
			if len(load(d.Stat).blocks) != 0 {
				t.Fatalf("%s %d: it counts as whole", what, i)
			}
		}
	}
	if got := d.must(t, nil).Digest(); got != want || !d.remembers(t, nil) {
		t.Error("it does not recover")
	}
	// Of another version, with a right sum, or nonsense in records.
	r := remembered{blocks: map[string]block{".": {1 << 30, "\xff\xff\xff\xff"}, "a": {1, string(whole[20:60])}}}
	r.dir(".")
	r.dir("a")
}

func TestManyScansAtOnce(t *testing.T) {
	d := small(t)
	age()
	want := d.must(t, nil).Digest()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if i%2 == 0 {
				os.Chmod(filepath.Join(d.Path, "4"), 0o644) // changes its ctime
			}
			m, err := d.Scan(context.Background(), nil)
			if err != nil || m.Digest() != want {
				t.Errorf("%v", err)
			}
		})
	}
	all.Wait()
	left, err := os.ReadDir(filepath.Dir(d.Stat))
	must(t, err)
	if len(left) != 1 {
		t.Errorf("%v is left", left)
	}
}

// While somebody writes, a scan sees a file as it was at some time, or says
// that it cannot.
func TestFilesChangeMeanwhile(t *testing.T) {
	d := small(t)
	sums := map[[32]byte]bool{emptySum: true}
	name := filepath.Join(d.Path, "4")
	var contents [][]byte
	for i := range 3 {
		contents = append(contents, bytes.Repeat([]byte{byte('a' + i)}, 200<<10))
		must(t, os.WriteFile(name, contents[i], 0o644))
		sums[d.must(t, nil).root.child("4").sum] = true
	}
	done := make(chan struct{})
	var writers sync.WaitGroup
	writers.Go(func() { // whole contents, by name
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			os.WriteFile(name+".new", contents[i%3], 0o644)
			os.Rename(name+".new", name)
			sub := filepath.Join(d.Path, fmt.Sprintf("b/%d", i%5))
			os.RemoveAll(sub)
			os.MkdirAll(filepath.Join(sub, "x"), 0o755)
			os.WriteFile(filepath.Join(sub, "x/y"), nil, 0o644)
		}
	})
	for range 20 {
		m, err := d.Scan(context.Background(), nil)
		if err != nil {
			t.Logf("said: %v", err)
			continue
		}
		if e := m.root.child("4"); e == nil || !sums[e.sum] {
			t.Error("a content that there never was")
		}
	}
	close(done)
	writers.Wait()
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	stop := make(chan struct{})
	writers.Go(func() { // in place
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				f.WriteAt(contents[i%3], 0)
			}
		}
	})
	for range 5 {
		// What is read while one write goes on, times do not tell: the kernel
		// sets them when it begins. On a busy machine that can take long.
		_, err := d.Scan(context.Background(), &Filter{Include: []string{"4"}})
		if errors.Is(err, fs.ErrInvalid) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("of the wrong kind: %v", err)
		}
	}
	close(stop)
	writers.Wait()
}

func TestUnchanged(t *testing.T) {
	d := small(t)
	f := &Filter{Exclude: []string{"b/log", "gone"}}
	changes := map[string]struct {
		do   func(in func(string) string) error
		want bool
	}{
		"nothing":             {func(in func(string) string) error { return nil }, true},
		"something not shown": {func(in func(string) string) error { return os.WriteFile(in("b/log"), nil, 0o644) }, true},
		"a new file":          {func(in func(string) string) error { return os.WriteFile(in("a/deep/new"), nil, 0o644) }, false},
		"content":             {func(in func(string) string) error { return os.WriteFile(in("b/3"), []byte("X/3"), 0o644) }, false},
		"a file less":         {func(in func(string) string) error { return os.Remove(in("a/1")) }, false},
		"mode of a directory": {func(in func(string) string) error { return os.Chmod(in("b"), 0o700) }, false},
		"another link": {func(in func(string) string) error {
			return errors.Join(os.Remove(in("link")), os.Symlink("4", in("link")))
		}, false},
		"a file for directory": {func(in func(string) string) error {
			return errors.Join(os.RemoveAll(in("b")), os.WriteFile(in("b"), nil, 0o644))
		}, false},
	}
	for what, c := range changes {
		d := &Dir{Path: d.Path}
		m := d.must(t, f)
		age()
		must(t, c.do(func(n string) string { return filepath.Join(d.Path, n) }))
		if ok, err := m.Unchanged(context.Background()); ok != c.want || err != nil {
			t.Errorf("%s: %v, %v", what, ok, err)
		}
		os.RemoveAll(d.Path)
		again := small(t)
		must(t, os.Rename(again.Path, d.Path))
	}
}
