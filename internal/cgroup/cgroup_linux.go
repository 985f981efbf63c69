package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// mount is one mounted hierarchy. Controllers is empty for v2.
type mount struct {
	dir         string
	controllers []string
}

// all lists the hierarchies of v1 and then that of v2, which on a hybrid
// machine has no controllers; the runtime makes groups there all the same.
var all = sync.OnceValues(func() ([]mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var v1, v2 []mount
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20) // an overlay's line names each of its layers
	for s.Scan() {
		pre, post, ok := strings.Cut(s.Text(), " - ")
		a, b := strings.Fields(pre), strings.Fields(post)
		if !ok || len(a) < 5 || len(b) < 3 {
			continue
		}
		switch b[0] {
		case "cgroup":
			v1 = append(v1, mount{dir: a[4], controllers: strings.Split(b[2], ",")})
		case "cgroup2":
			v2 = append(v2, mount{dir: a[4]})
		}
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	if len(v1)+len(v2) == 0 {
		return nil, errors.New("no cgroup hierarchy is mounted; mount one at /sys/fs/cgroup")
	}
	return append(v1, v2[:min(1, len(v2))]...), nil
})

// mounts lists the hierarchies with controllers.
func mounts() ([]mount, error) {
	m, err := all()
	if err == nil && m[0].controllers != nil {
		m = slices.DeleteFunc(slices.Clone(m), func(h mount) bool { return h.controllers == nil })
	}
	return m, err
}

// Unified reports whether this machine uses cgroup v2 only.
func Unified() bool {
	m, err := mounts()
	return err == nil && len(m) == 1 && m[0].controllers == nil
}

// own reads this process's path in every hierarchy, by the joined names of
// its controllers ("" for v2).
func own() (map[string]string, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	paths := map[string]string{}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) == 3 {
			paths[f[1]] = f[2]
		}
	}
	return paths, nil
}

// Base is the group under which all of a Root's containers live: parent when
// given, else the one we were put in, with a group of the Root's own below.
func Base(parent, rootID string) (string, error) {
	name := "amphora-" + rootID
	if parent != "" {
		if !path.IsAbs(parent) || path.Clean(parent) != parent {
			return "", fmt.Errorf("cgroup parent %q: give a clean absolute path", parent)
		}
		return path.Join(parent, name), nil
	}
	paths, err := own()
	if err != nil {
		return "", err
	}
	if Unified() && underSystemd() {
		return scopeOf(name)
	}
	if Unified() {
		return path.Join(strings.TrimSuffix(paths[""], "/"+name+"/shims"), name), nil
	}
	// Hierarchies of v1 may have us in different groups; one path must serve
	// all, so it is what they have in common.
	base, first := "/", true
	for controllers, p := range paths {
		if controllers == "" {
			continue // the v2 side of a hybrid machine has no controllers
		}
		p = strings.TrimSuffix(p, "/"+name+"/shims")
		if first {
			base, first = p, false
		}
		for base != "/" && p != base && !strings.HasPrefix(p, base+"/") {
			base = path.Dir(base)
		}
	}
	return path.Join(base, name), nil
}

// dirs lists where the group lies in each hierarchy, whether it exists or not.
func dirs(group string) ([]string, error) {
	m, err := all()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, h := range m {
		out = append(out, filepath.Join(h.dir, group))
	}
	return out, nil
}

// Enter moves this process into group in the hierarchy by which service
// managers find their processes: a supervisor must not die with the unit of
// the program that started it. That is the only one of v2, and systemd's of
// v1. A write to cgroup.procs waits for a grace period of the kernel, 5 to 10
// ms, so a hierarchy at whose root we are is left alone, and so are v1's
// controllers: there the supervisor stays within its program's limits.
func Enter(group string) error {
	paths, err := own()
	if err != nil {
		return err
	}
	m, err := mounts()
	if err != nil {
		return err
	}
	if m[0].controllers == nil {
		if scoped(group) {
			return enterScope(m[0].dir, group, paths[""] == group)
		}
		if paths[""] == group {
			return nil
		}
		return join(filepath.Join(m[0].dir, group), os.MkdirAll)
	}
	for _, h := range m {
		for _, c := range h.controllers {
			if !strings.HasPrefix(c, "name=") || paths[c] == "/" || paths[c] == group {
				continue
			}
			if err := join(filepath.Join(h.dir, group), os.MkdirAll); err != nil {
				return err
			}
		}
	}
	enterHybrid(group, paths[""])
	return nil
}

// join makes the group if it is missing and moves this process into it.
func join(dir string, mkdir func(string, fs.FileMode) error) error {
	if err := mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0)
}

// ForFork opens group for a clone that begins in it (CLONE_INTO_CGROUP, v2
// only): that needs no grace period. It returns nil where that is not possible,
// and the child enters by itself.
func ForFork(group string) *os.File {
	if !Unified() {
		return nil
	}
	m, err := mounts()
	if err != nil {
		return nil
	}
	dir := filepath.Join(m[0].dir, group)
	mkdir := os.MkdirAll
	if scoped(group) {
		if !ready(filepath.Dir(dir)) {
			return nil // systemd makes the scope around the child
		}
		mkdir = os.Mkdir
	}
	if err := mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	return f
}

// Pids lists the processes of a group and of those below it.
func Pids(group string) ([]int, error) {
	all := map[int]bool{}
	ds, err := dirs(group)
	if err != nil {
		return nil, err
	}
	for _, d := range ds {
		err := filepath.WalkDir(d, func(p string, e fs.DirEntry, err error) error {
			if err != nil || !e.IsDir() {
				return ignoreGone(err)
			}
			b, err := os.ReadFile(filepath.Join(p, "cgroup.procs"))
			if err != nil {
				return ignoreGone(err)
			}
			for f := range strings.FieldsSeq(string(b)) {
				if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
					all[pid] = true
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	pids := make([]int, 0, len(all))
	for pid := range all {
		pids = append(pids, pid)
	}
	return pids, nil
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// Kill kills every process of the group and waits until they are dead or
// limit has passed. Killing by pid alone would miss what forks meanwhile: v2
// kills in the kernel, v1 freezes first.
func Kill(group string, limit time.Duration) error {
	ds, err := dirs(group)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(limit)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		for _, d := range ds {
			os.WriteFile(filepath.Join(d, "cgroup.kill"), []byte("1"), 0) // v2 from 5.14 on
			os.WriteFile(filepath.Join(d, "freezer.state"), []byte("FROZEN"), 0)
			os.WriteFile(filepath.Join(d, "cgroup.freeze"), []byte("0"), 0)
		}
		pids, err := Pids(group)
		if err != nil {
			return err
		}
		alive := 0
		for _, pid := range pids {
			if dying(pid) {
				continue
			}
			alive++
			unix.Kill(pid, unix.SIGKILL)
		}
		for _, d := range ds {
			os.WriteFile(filepath.Join(d, "freezer.state"), []byte("THAWED"), 0)
		}
		if alive == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("cgroup %s: %d processes did not die within %v", group, alive, limit)
		}
		time.Sleep(wait)
	}
}

// dying reports a zombie: it holds nothing any more, and its parent may never
// reap it.
func dying(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	i := strings.LastIndexByte(string(b), ')')
	return i > 0 && len(b) > i+2 && (b[i+2] == 'Z' || b[i+2] == 'X')
}

// Remove removes the group and those below it, in every hierarchy. A group
// stays busy for a moment after its last process died.
func Remove(group string) error {
	ds, err := dirs(group)
	if err != nil {
		return err
	}
	for _, d := range ds {
		if err := removeTree(d); err != nil {
			return err
		}
	}
	return nil
}

func removeTree(dir string) error {
	for wait := time.Millisecond; ; wait *= 2 {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) || wait > time.Second {
			return &os.PathError{Op: "remove cgroup", Path: dir, Err: err}
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return ignoreGone(err)
		}
		for _, e := range entries {
			if e.IsDir() {
				if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
					return err
				}
			}
		}
		time.Sleep(wait)
	}
}

// OOMKills counts the processes of the group that the kernel killed for want
// of memory.
func OOMKills(group string) int {
	ds, _ := dirs(group)
	for _, d := range ds {
		for _, name := range []string{"memory.oom_control", "memory.events"} {
			b, err := os.ReadFile(filepath.Join(d, name))
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(b)) {
				if f := strings.Fields(line); len(f) == 2 && f[0] == "oom_kill" {
					n, _ := strconv.Atoi(f[1])
					return n
				}
			}
		}
	}
	return 0
}

// Read returns a file of the group, from whichever hierarchy has it.
func Read(group, name string) (string, error) {
	ds, err := dirs(group)
	if err != nil {
		return "", err
	}
	for _, d := range ds {
		b, err := os.ReadFile(filepath.Join(d, name))
		if err == nil {
			return strings.TrimSpace(string(b)), nil
		}
		if ignoreGone(err) != nil {
			return "", err
		}
	}
	return "", &os.PathError{Op: "read", Path: group + "/" + name, Err: fs.ErrNotExist}
}
