package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

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

// endChildren kills what descends from us: supervisors whose containers were
// not removed. Orphans of ours are among them, since we are their reaper.
func endChildren() {
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
