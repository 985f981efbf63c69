//go:build unix

package source

import (
	"os/exec"
	"syscall"
)

// inGroup gives a command a process group, which is killed as a whole: git
// leaves the network to programs that it starts.
func inGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
