// Package proc reads the few facts about processes and the machine's boot
// that recovery rests on.
package proc

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// BootID identifies this boot of the machine: what State says under another
// boot id is about processes and mounts that no longer exist.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(b)), nil
}

// Stat is the part of /proc/PID/stat that tells one process from another.
type Stat struct {
	State     byte   // R, S, D, Z ...
	PPid      int    // parent
	StartTime uint64 // clock ticks since boot: pid and StartTime together never repeat in one boot
}

// ReadStat reads /proc/pid/stat.
func ReadStat(pid int) (Stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Stat{}, err
	}
	// The command name may hold spaces and parentheses: skip to its last ')'.
	i := strings.LastIndexByte(string(b), ')')
	f := strings.Fields(string(b[i+1:]))
	if i < 0 || len(f) < 20 {
		return Stat{}, fmt.Errorf("/proc/%d/stat: unexpected format", pid)
	}
	ppid, err := strconv.Atoi(f[1])
	if err != nil {
		return Stat{}, err
	}
	start, err := strconv.ParseUint(f[19], 10, 64)
	return Stat{State: f[0][0], PPid: ppid, StartTime: start}, err
}

// Alive reports whether the process with that pid and start time still runs.
// A zombie counts as dead: its parent may never reap it.
func Alive(pid int, startTime uint64) bool {
	st, err := ReadStat(pid)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return false
	}
	return err == nil && st.StartTime == startTime && st.State != 'Z' && st.State != 'X'
}

// NamespaceInode returns the inode of one of this thread's namespaces, such
// as "net" or "pid": two processes are in the same namespace if it is equal.
func NamespaceInode(name string) (uint64, error) {
	var st syscall.Stat_t
	if err := syscall.Stat("/proc/thread-self/ns/"+name, &st); err != nil {
		return 0, err
	}
	return st.Ino, nil
}
