package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// self is what one process holds.
type self struct {
	fds        map[string]string // number -> target
	goroutines []string          // stacks through this module
	namespaces []string          // net and mnt of the threads, each once
}

func seeSelf() self {
	s := self{fds: map[string]string{}}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || runtimeOwned(to) {
			continue // the descriptor of ReadDir itself is gone by now
		}
		s.fds[e.Name()] = to
	}
	s.goroutines = goroutines()
	tasks, _ := filepath.Glob("/proc/self/task/*/ns/*")
	for _, ns := range tasks {
		if base := filepath.Base(ns); base != "net" && base != "mnt" {
			continue
		}
		if to, err := os.Readlink(ns); err == nil && !slices.Contains(s.namespaces, to) {
			s.namespaces = append(s.namespaces, to)
		}
	}
	return s
}

// runtimeOwned tells descriptors that the Go runtime opens once at first use
// and keeps: its poller and the cgroup files by which it sets GOMAXPROCS.
func runtimeOwned(target string) bool {
	return target == "anon_inode:[eventpoll]" || target == "anon_inode:[eventfd]" ||
		strings.HasPrefix(target, "/sys/fs/cgroup/") && strings.HasPrefix(filepath.Base(target), "cpu.")
}

// goroutines returns the stacks that run code of this module, but for this
// package's own.
func goroutines() []string {
	buf := make([]byte, 64<<10)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	var all []string
	for _, stack := range strings.Split(string(buf), "\n\n") {
		if strings.Contains(stack, "amphora-go/amphora") && !strings.Contains(stack, "amphora/internal/testenv.Main(") {
			all = append(all, stack)
		}
	}
	return all
}

// id is the "goroutine 12" at the start of a stack.
func goroutineID(stack string) string {
	id, _, _ := strings.Cut(stack, " [")
	return id
}

func (before self) leaks(after self) []string {
	var leaks []string
	for n, to := range after.fds {
		if before.fds[n] != to {
			leaks = append(leaks, fmt.Sprintf("descriptor %s: %s", n, to))
		}
	}
	for _, ns := range after.namespaces {
		if !slices.Contains(before.namespaces, ns) {
			leaks = append(leaks, "a thread in another namespace: "+ns)
		}
	}
	for _, stack := range after.goroutines {
		known := func(old string) bool { return goroutineID(old) == goroutineID(stack) }
		if !slices.ContainsFunc(before.goroutines, known) {
			leaks = append(leaks, "a goroutine that does not end: "+strings.ReplaceAll(stack, "\n", "\n    "))
		}
	}
	slices.Sort(leaks)
	return leaks
}
