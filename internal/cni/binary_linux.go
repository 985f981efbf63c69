package cni

import (
	"errors"
	"os/exec"
	"syscall"
)

// endWithChildren has a command end together with what it started.
func endWithChildren(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}

func isBusy(err error) bool { return errors.Is(err, syscall.ETXTBSY) }
