//go:build unix

package testenv

import (
	"os"
	"syscall"
)

// codeOfState is the signal that ended a process, 0 when none did.
func codeOfState(s *os.ProcessState) int {
	if w := s.Sys().(syscall.WaitStatus); w.Signaled() {
		return int(w.Signal())
	}
	return 0
}
