package main

import (
	"os/exec"
	"syscall"
)

// unshare has the command start in a new network namespace.
func unshare(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	return nil
}
