// Package pidfd makes descriptors of processes.
package pidfd

import (
	"os"

	"golang.org/x/sys/unix"
)

// Self returns a descriptor that becomes readable when this process has
// ended.
func Self() (*os.File, error) {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}
