package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// snoop SECONDS looks at what processes it can see that are no testbox: those
// that a supervisor prepares. It tells what of them it could get hold of.
func snoop(args []string) int {
	if len(args) != 1 {
		return usage("snoop SECONDS")
	}
	sec, err := strconv.Atoi(args[0])
	if err != nil {
		return fail("snoop", err)
	}
	fmt.Println("snooping")
	seen := map[int]bool{}
	for end := time.Now().Add(time.Duration(sec) * time.Second); time.Now().Before(end); {
		dir, err := os.Open("/proc")
		if err != nil {
			return fail("snoop", err)
		}
		names, _ := dir.Readdirnames(-1)
		dir.Close()
		for _, n := range names {
			if pid, err := strconv.Atoi(n); err == nil && pid > 1 && pid != os.Getpid() && stranger(pid) {
				seen[pid] = true
				grope(pid)
			}
		}
	}
	fmt.Println("seen", len(seen))
	return 0
}

// stranger reports whether the process is still the supervisor's.
func stranger(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && len(b) > 0 && (strings.HasPrefix(string(b), "amphora") || strings.HasPrefix(string(b), "/proc/"))
}

func grope(pid int) {
	for _, name := range []string{"exe", "mem", "environ", "maps", "auxv", "fd/0"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			continue
		}
		// It may have become the command meanwhile: then this is of no interest.
		if stranger(pid) {
			fmt.Println("leak", name)
		}
		f.Close()
	}
	// Root may list the numbers, on some kernels. There must be the
	// streams only, and the sealed file that is executed first.
	if dir, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); err == nil && len(dir) > 4 && stranger(pid) {
		fmt.Println("leak fd", dir)
	}
	for _, name := range []string{"cwd", "root", "ns/net", "exe"} {
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/%s", pid, name)); err == nil && stranger(pid) {
			fmt.Println("leak link", name, to)
		}
	}
	const seize = 0x4206 // PTRACE_SEIZE
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PTRACE, seize, uintptr(pid), 0, 0, 0, 0); errno == 0 {
		if stranger(pid) {
			fmt.Println("leak ptrace")
		}
		syscall.PtraceDetach(pid)
	}
}
