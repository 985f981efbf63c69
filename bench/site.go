package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// site is the temporary directory that everything is made in, and the way to
// leave nothing behind.
type site struct {
	dir      string
	cleanups []func()
}

func newSite(parent string) (*site, error) {
	// What the peers leave without a parent becomes our child, so that it can
	// be found and reaped also where process 1 does not care.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(parent, "amphora-bench-")
	return &site{dir: dir}, err
}

func (s *site) path(names ...string) string {
	return filepath.Join(append([]string{s.dir}, names...)...)
}

// later registers what is undone in the end, the last first.
func (s *site) later(f func()) { s.cleanups = append(s.cleanups, f) }

// clean undoes everything. It removes the directory only when nothing is
// mounted below it any more.
func (s *site) clean() error {
	for _, f := range slices.Backward(s.cleanups) {
		f()
	}
	s.endChildren()
	if err := s.unmount(); err != nil {
		return err
	}
	return os.RemoveAll(s.dir)
}

// endChildren kills what descends from us: supervisors whose containers were
// not removed. Orphans of ours are among them, since we are their reaper.
func (s *site) endChildren() {
	for range 100 {
		left := descendants(os.Getpid())
		if len(left) == 0 {
			return
		}
		for _, p := range left {
			if p.zombie {
				syscall.Wait4(p.pid, nil, syscall.WNOHANG, nil)
			} else {
				syscall.Kill(p.pid, syscall.SIGKILL)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *site) unmount() error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if point := unescape(fields[4]); strings.HasPrefix(point, s.dir+"/") {
			points = append(points, point)
		}
	}
	slices.Sort(points)
	for _, p := range slices.Backward(points) {
		if uerr := unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); uerr != nil && !errors.Is(uerr, unix.EINVAL) {
			err = errors.Join(err, fmt.Errorf("unmount %s: %w; %s stays", p, uerr, s.dir))
		}
	}
	return err
}

// unescape reads the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// removeGroups removes the empty control groups with a name, in all
// hierarchies.
func removeGroups(name string) {
	roots, _ := filepath.Glob("/sys/fs/cgroup/*")
	for _, root := range append(roots, "/sys/fs/cgroup") {
		var dirs []string
		filepath.WalkDir(filepath.Join(root, name), func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for _, dir := range slices.Backward(dirs) {
			syscall.Rmdir(dir)
		}
	}
}

// ownGroups are the control groups that we are in.
func ownGroups() []string {
	data, _ := os.ReadFile("/proc/self/cgroup")
	groups := []string{"/"}
	for line := range strings.Lines(string(data)) {
		if _, path, ok := strings.Cut(strings.TrimSpace(line), ":/"); ok {
			groups = append(groups, "/"+path)
		}
	}
	slices.Sort(groups)
	return slices.Compact(groups)
}

// tool is a program with what all its calls have in common.
type tool struct {
	argv []string
	env  []string
	dir  string // for what it says, shown when it fails
}

// run runs the tool to its end. It writes to a file, not to a pipe that a
// supervisor in the background could hold open.
func (t *tool) run(ctx context.Context, args ...string) error {
	_, err := t.output(ctx, nil, args...)
	return err
}

func (t *tool) output(ctx context.Context, stdin *os.File, args ...string) (string, error) {
	f, err := os.CreateTemp(t.dir, "said-")
	if err != nil {
		return "", err
	}
	defer f.Close()
	defer os.Remove(f.Name())
	stderr, err := os.CreateTemp(t.dir, "said-")
	if err != nil {
		return "", err
	}
	defer stderr.Close()
	defer os.Remove(stderr.Name())
	argv := append(slices.Clone(t.argv), args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), t.env...)
	cmd.Stdout, cmd.Stderr = f, stderr
	if stdin != nil {
		cmd.Stdin = stdin
	}
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(stderr.Name())
		return "", fmt.Errorf("%s %s: %w: %s", filepath.Base(argv[0]), strings.Join(args, " "), err, tail(text))
	}
	text, err := os.ReadFile(f.Name())
	return strings.TrimSpace(string(text)), err
}

// tail is the end of what a program said, in one line.
func tail(text []byte) string {
	text = bytes.TrimSpace(text)
	if len(text) > 300 {
		text = text[len(text)-300:]
	}
	return strings.ReplaceAll(string(text), "\n", "; ")
}

// process is one line of /proc.
type process struct {
	pid, parent int
	zombie      bool
	args        string // separated by blanks
}

func processes() []process {
	var all []process
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue // it ended
		}
		// The name in brackets may hold anything.
		rest := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		args, _ := os.ReadFile(dir + "/cmdline")
		p := process{zombie: rest[0] == "Z", args: strings.ReplaceAll(string(args), "\x00", " ")}
		p.pid, _ = strconv.Atoi(filepath.Base(dir))
		p.parent, _ = strconv.Atoi(rest[1])
		all = append(all, p)
	}
	return all
}

// descendants are the children of a process, theirs, and so on.
func descendants(pid int) []process {
	children := map[int][]process{}
	for _, p := range processes() {
		children[p.parent] = append(children[p.parent], p)
	}
	all := slices.Clone(children[pid])
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i].pid]...)
	}
	return all
}

// reap takes the exit codes of orphans that we got. Called only while no
// command of ours runs, so that it takes nobody else's.
func (b *bench) reap() {
	for _, p := range processes() {
		if p.zombie && p.parent == os.Getpid() && !b.known[p.pid] {
			syscall.Wait4(p.pid, nil, syscall.WNOHANG, nil)
		}
	}
}
