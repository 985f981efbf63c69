//go:build !linux

// Package proc reads the few facts about processes and the machine's boot
// that recovery rests on.
package proc

import "errors"

// BootID is a constant where containers cannot run: nothing there outlives a
// process.
func BootID() (string, error) { return "none", nil }

// Stat is the part of /proc/PID/stat that tells one process from another.
type Stat struct {
	State     byte
	PPid      int
	StartTime uint64
}

// ReadStat needs Linux.
func ReadStat(int) (Stat, error) { return Stat{}, errors.ErrUnsupported }

// Alive is always false off Linux: no container runs there.
func Alive(int, uint64) bool { return false }

// NamespaceInode is zero off Linux.
func NamespaceInode(string) (uint64, error) { return 0, nil }
