//go:build !linux

package cgroup

import (
	"time"

	"github.com/amphora-go/amphora/internal/fault"
)

var errLinux = fault.Unsupported("control groups need Linux")

// Unified is false where there are no control groups.
func Unified() bool { return false }

func Base(parent, rootID string) (string, error)   { return "", errLinux }
func Enter(group string) error                     { return errLinux }
func Pids(group string) ([]int, error)             { return nil, errLinux }
func Kill(group string, limit time.Duration) error { return errLinux }
func Remove(group string) error                    { return errLinux }
func OOMKills(group string) int                    { return 0 }
func Read(group, name string) (string, error)      { return "", errLinux }
func Freeze(group string, on bool) error           { return errLinux }
func Stat(group string) (*Stats, error)            { return nil, errLinux }

// CanLimitSwap is false where nothing can be limited.
func CanLimitSwap() bool { return false }
