//go:build cgo

package reexec

import (
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/opencontainers/runc/libcontainer/utils"
	"golang.org/x/sys/unix"
)

// reap makes this process the container's process 1 for good, with the
// command as its child: it waits for the shim's go, passes signals on, reaps
// orphans, and ends as the command does. It never returns.
//
// Nothing of the host may stay open here: unlike a process that goes through
// execve, this one keeps what is not closed, and the container's root can look
// into it.
func reap(command *Reaper, fifo int) {
	unix.Dup3(fifo, FilterFD, unix.O_CLOEXEC)
	utils.UnsafeCloseFrom(FilterFD + 1) // also the pipes that tell the shim we are ready
	w, err := unix.Open("/proc/self/fd/"+strconv.Itoa(FilterFD), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		os.Exit(255)
	}
	unix.Write(w, []byte("0"))
	unix.Close(w)
	unix.Close(FilterFD)

	all := make(chan os.Signal, 64)
	signal.Notify(all)
	child := run(command)
	for s := range all {
		switch s {
		case syscall.SIGURG: // the Go runtime's own
		case syscall.SIGCHLD:
			reapAll(child)
		default:
			syscall.Kill(child, s.(syscall.Signal))
		}
	}
}

// run starts the command. On a terminal it becomes the foreground group.
func run(command *Reaper) int {
	args := command.Args
	path, err := exec.LookPath(args[0]) // libcontainer has set PATH
	if err != nil {
		os.Exit(127)
	}
	attr := &syscall.ProcAttr{Env: command.Env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: true}}
	if _, err := unix.IoctlGetTermios(0, unix.TCGETS); err == nil {
		attr.Sys = &syscall.SysProcAttr{Foreground: true, Ctty: 0}
	}
	pid, err := syscall.ForkExec(path, args, attr)
	if err != nil {
		os.Stderr.WriteString(args[0] + ": " + err.Error() + "\n")
		os.Exit(126)
	}
	return pid
}

func reapAll(child int) {
	for {
		var st syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &st, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if pid <= 0 {
			return
		}
		if pid != child {
			continue
		}
		if st.Signaled() {
			os.Exit(128 + int(st.Signal()))
		}
		os.Exit(st.ExitStatus())
	}
}
